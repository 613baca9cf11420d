//! What a client writes, read strictly, and apart from the encoder and from the protocol room's own walk over it.

/// One operation of a client.
#[derive(Debug)]
pub(super) enum Operation {
    Connect(Vec<u8>),
    Publish { subject: Vec<u8>, reply: Option<Vec<u8>>, headers: Option<Vec<u8>>, payload: Vec<u8> },
    Subscribe { subject: Vec<u8>, queue: Option<Vec<u8>>, sid: u64 },
    Unsubscribe { sid: u64, max: Option<u64> },
    Ping,
    Pong,
}

/// Reads one connection's stream as it is written.
#[derive(Default)]
pub(super) struct Tap {
    /// The beginning of an operation that is not whole yet.
    tail: Vec<u8>,
    /// Bytes of the stream before it.
    before: u64,
    publishes: u64,
}

impl Tap {
    /// The operations that are whole now, each with its end in the stream.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<(u64, Operation)>, String> {
        self.tail.extend_from_slice(bytes);
        let (mut at, mut whole) = (0, Vec::new());
        while let Some((operation, length)) = next(&self.tail[at..]).map_err(|reason| {
            let shown = &self.tail[at..self.tail.len().min(at + 100)];
            format!("{reason}: {:?}", String::from_utf8_lossy(shown))
        })? {
            at += length;
            self.publishes += u64::from(matches!(operation, Operation::Publish { .. }));
            whole.push((self.before + at as u64, operation));
        }
        self.tail.drain(..at);
        self.before += at as u64;
        Ok(whole)
    }

    /// Messages of which a byte was written, at least and at most: of a lone `P` nobody can tell.
    pub(super) fn begun(&self) -> (u64, u64) {
        let (least, most) = match self.tail.as_slice() {
            b"P" => (0, 1),
            tail if tail.starts_with(b"PU") || tail.starts_with(b"H") => (1, 1),
            _ => (0, 0),
        };
        (self.publishes + least, self.publishes + most)
    }
}

/// The operation at the front and its length; `None` while it is not whole.
fn next(bytes: &[u8]) -> Result<Option<(Operation, usize)>, &'static str> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() > LINE_BYTES_MAX { Err("an endless line") } else { Ok(None) };
    };
    let mut words = bytes[..end].split(|byte| *byte == b' ');
    let name = words.next().unwrap_or_default();
    if name == b"CONNECT" {
        return Ok(Some((Operation::Connect(bytes[8..end].to_vec()), end + 2)));
    }
    let words: Vec<&[u8]> = words.collect();
    if words.iter().any(|word| word.is_empty()) {
        return Err("an empty word");
    }
    let operation = match (name, words.as_slice()) {
        (b"PING", []) => Operation::Ping,
        (b"PONG", []) => Operation::Pong,
        (b"SUB", [subject, sid]) => {
            Operation::Subscribe { subject: subject.to_vec(), queue: None, sid: number(sid)? }
        }
        (b"SUB", [subject, queue, sid]) => {
            Operation::Subscribe { subject: subject.to_vec(), queue: Some(queue.to_vec()), sid: number(sid)? }
        }
        (b"UNSUB", [sid]) => Operation::Unsubscribe { sid: number(sid)?, max: None },
        (b"UNSUB", [sid, max]) => Operation::Unsubscribe { sid: number(sid)?, max: Some(number(max)?) },
        (b"PUB", [subject, reply @ .., size]) if reply.len() < 2 => {
            return publish(bytes, end + 2, subject, reply, (0, number(size)?));
        }
        (b"HPUB", [subject, reply @ .., header, total]) if reply.len() < 2 => {
            return publish(bytes, end + 2, subject, reply, (number(header)?, number(total)?));
        }
        _ => return Err("no operation"),
    };
    Ok(Some((operation, end + 2)))
}

fn publish(
    bytes: &[u8],
    begin: usize,
    subject: &[u8],
    reply: &[&[u8]],
    (header, total): (u64, u64),
) -> Result<Option<(Operation, usize)>, &'static str> {
    let (header, total) = (header as usize, total as usize);
    if header > total {
        return Err("headers larger than all");
    }
    let end = begin + total;
    if bytes.len() < end + 2 {
        return Ok(None);
    }
    if &bytes[end..end + 2] != b"\r\n" {
        return Err("a body without its end");
    }
    let headers = (header > 0).then(|| bytes[begin..begin + header].to_vec());
    let operation = Operation::Publish {
        subject: subject.to_vec(),
        reply: reply.first().map(|reply| reply.to_vec()),
        headers,
        payload: bytes[begin + header..end].to_vec(),
    };
    Ok(Some((operation, end + 2)))
}

fn number(word: &[u8]) -> Result<u64, &'static str> {
    let canonical = word == b"0" || !word.starts_with(b"0");
    let text = std::str::from_utf8(word).map_err(|_| "no number")?;
    if canonical && word.iter().all(u8::is_ascii_digit) {
        text.parse().map_err(|_| "no number")
    } else {
        Err("no number")
    }
}

/// Longer than any line that a link of the simulation writes.
const LINE_BYTES_MAX: usize = 2000;
