//! Requests: those who ask at their times, those who answer, and what became of each.

mod fates;
mod requester;
mod responder;

pub(crate) use self::fates::RequestFates;
pub(crate) use self::requester::Requester;
pub(crate) use self::responder::Responder;
