//! Nodes among each other: who is gone, who gets in, what a stranger can do.

mod child;
mod crashes;
mod cut_links;
mod floods;
mod keyed_strangers;
mod leaving;
mod names;
mod peer;
mod peer_proxy;
mod raw_peer;
mod shard_counts;
mod siege;
mod strangers;
