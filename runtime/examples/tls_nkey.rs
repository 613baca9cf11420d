//! Encrypted, and known by a key: `tls_nkey SERVER CA_FILE SEED_FILE`
//!
//! The server's side, with the public key of the seed:
//!
//! ```text
//! tls { cert_file: "server.pem", key_file: "server.key" }
//! authorization { users: [ { nkey: "UB.." } ] }
//! ```
//! The seed never leaves this process: it signs what the server asks for. Both files are read again at each connect, so
//! that they are changed by replacing them. In `node.toml`:
//!
//! ```toml
//! auth = { nkey_seed_file = "app.nk" }
//! tls = { ca_file = "ca.pem" }
//! ```

use croupier::{
    Node, Result,
    config::{AuthConfig, TlsConfig},
};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, ca_file, seed_file] = arguments.as_slice() else {
        eprintln!("usage: tls_nkey SERVER CA_FILE SEED_FILE");
        std::process::exit(2);
    };
    let mut node = Node::builder().cluster("c1", [server]).shards(1);
    let cluster = &mut node.config_mut().clusters[0];
    cluster.tls = Some(TlsConfig::default().ca_file(ca_file));
    cluster.auth = Some(AuthConfig::nkey_seed_file(seed_file));
    node.run(async |shard| {
        let mut whispers = shard.subscribe("whispers").await?;
        shard.publish("whispers", "nobody else can read this")?;
        if let Some(whisper) = whispers.next().await {
            println!("{}: {}", whisper.topic(), String::from_utf8_lossy(whisper.payload()));
        }
        Ok(())
    })
}
