//! Tests across the rooms, against real nats-servers.

mod ancestors;
mod calls;
mod cluster_of_two;
mod cuts;
mod dispatch;
mod faults;
mod guides;
mod handlers;
mod interop;
mod lifecycle;
mod nodes;
mod peers;
mod recording_proxy;
mod registry_rig;
mod requests;
mod rig;
mod rude_servers;
mod scripted;
mod slow_subscribers;
mod smoke;
mod subscriptions;
mod support;
mod verbs;
mod walls;
mod watchdog;
mod wildcards;
