//! All that names glommio: executors, tasks, timers and sockets. The rest of the runtime sees only
//! what this module gives out, so that the sockets can move to another ring without it.

mod alarm;
mod bell;
mod executor;
mod listener;
mod lookout;
mod off_shard;
mod resolve;
#[cfg(test)]
pub(crate) mod simulated;
mod socket;
mod stream;
mod tls;

pub use self::tls::AcceptedTls;
pub(crate) use self::{
    alarm::{Alarm, sleep},
    executor::{ExecutorSettings, IO_MEMORY_BYTES, RING_DEPTH, Task, run_executor, spawn},
    listener::{Accepted, BoundListener, Listener},
    off_shard::off_shard,
    resolve::resolve,
    socket::{SendHalf, Socket, SocketSettings},
};
