//! Tests across the rooms, against real nats-servers.

mod smoke;
