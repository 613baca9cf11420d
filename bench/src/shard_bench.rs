//! Shards with a stub behind them, for benches whose harness owns the main thread.

use croupier::{Node, Shard};
use futures_lite::future::block_on;

use crate::croupier_client::CLUSTER;
use crate::error::BenchError;
use crate::stub::Stub;
use crate::traffic::Account;

const NAME: &str = "croupier";

/// A node, most often of one shard, connected to a stub of its own.
pub struct ShardBench {
    node: Node,
    stub: Stub,
}

impl ShardBench {
    /// Starts both, with one shard, and waits until it has reached the stub.
    ///
    /// # Errors
    /// Those of the stub and of the node.
    pub fn start() -> Result<Self, BenchError> {
        Self::start_shards(1)
    }

    /// The same with so many shards, of which the first is the one that works.
    ///
    /// # Errors
    /// Those of the stub and of the node.
    pub fn start_shards(shards: usize) -> Result<Self, BenchError> {
        let stub = Stub::start()?;
        let node = Node::builder()
            .cluster(CLUSTER, [format!("nats://{}", stub.address())])
            .shards(shards)
            .start(async |_| Ok(()))
            .map_err(BenchError::client(NAME))?;
        let bench = Self { node, stub };
        bench.run(async |shard| shard.flush().await.map_err(BenchError::client(NAME)))?;
        Ok(bench)
    }

    /// Runs `work` on the first shard and waits for it.
    ///
    /// # Errors
    /// Those of the work, and that the shard is gone.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(Shard) -> Result<T, BenchError> + Send + 'static,
    ) -> Result<T, BenchError> {
        block_on(self.node.handle().submit_to(0, work)).map_err(BenchError::client(NAME))?
    }

    /// Ends both and tells what passed the stub.
    ///
    /// # Errors
    /// Those of the node and of the stub.
    pub fn finish(self) -> Result<Account, BenchError> {
        let Self { node, stub } = self;
        block_on(node.handle().drain()).map_err(BenchError::client(NAME))?;
        node.join().map_err(BenchError::client(NAME))?;
        stub.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::croupier_client::{HandlerFlood, receive_from_queue};
    use crate::receiving::Length;
    use crate::traffic::{DATA_SUBJECT, Payloads, Tally};

    #[test]
    fn shard_and_stub_count_the_same() {
        let bench = ShardBench::start().unwrap();
        let by_handler = bench.run(async |shard| {
            let flood = HandlerFlood::subscribe(&shard).await?;
            flood.receive(16, Length::Messages(1000)).await
        });
        let from_queue = bench.run(async |shard| {
            let mut subscription = shard.subscribe(DATA_SUBJECT).await.map_err(BenchError::client(NAME))?;
            receive_from_queue(&shard, &mut subscription, 128, Length::Messages(1000)).await
        });
        let published = bench.run(async |shard| {
            let payloads = Payloads::new(16);
            for number in 0..1000 {
                shard.publish(DATA_SUBJECT, payloads.at(number)).map_err(BenchError::client(NAME))?;
            }
            shard.flush().await.map_err(BenchError::client(NAME))
        });
        published.unwrap();
        let flooded = by_handler.unwrap().plus(from_queue.unwrap());
        assert_eq!(flooded, Tally::of_first(1000, 16).plus(Tally::of_first(1000, 128)));
        let account = bench.finish().unwrap();
        assert_eq!(account, Account { swallowed: Tally::of_first(1000, 16), flooded, ..Account::default() });
    }
}
