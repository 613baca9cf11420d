//! Calls to services: whom they reach, when the next instance is asked, and when the caller is left in doubt.

mod doubt;
mod many;
mod moving_on;
mod offering;
mod reaching;
