//! Who gets in, on real servers: every kind of credential, right and wrong, from every place it may come.

mod callbacks;
mod jwt;
mod kinds;
mod rotation;
mod tokens;

pub(crate) use self::tokens::Accounts;
