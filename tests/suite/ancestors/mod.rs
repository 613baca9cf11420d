//! Where the PubSub ancestor breaks, each fault as a test that it is not ours. Named after the list of
//! its faults: R1 to R18.

mod consumers;
mod dead_cluster;
mod spreading;
mod values;
mod wire;
