//! Whatever callers pass, the encoder writes the operations that were asked for and no others, as
//! an independent strict reader sees them.

use croupier_protocol::{
    ClientOperation, ClientOperationKind, ConnectOptions, Headers, QueueGroup, Sid, Subject, encode,
    next_client_operation,
};

use super::recipe::Recipe;

/// The bytes are a recipe of operations.
pub fn check(data: &[u8]) {
    let mut recipe = Recipe::new(data);
    let mut out = Vec::new();
    let mut wanted = Vec::new();
    while !recipe.is_empty() {
        let start = out.len();
        if let Some((kind, body)) = encode_one(&mut recipe, &mut out) {
            let operation = next_client_operation(&out[start..]).expect("an operation");
            assert_eq!(operation.kind, kind);
            assert_eq!(operation.body_bytes, body.map_or(0, |body| body.len() + 2));
            wanted.push(operation);
        } else {
            assert_eq!(out.len(), start, "what is refused leaves no bytes");
        }
    }
    assert_eq!(walk(&out), wanted);
}

/// Encodes one operation; returns its kind and its body, or `None` if a check refused an argument.
fn encode_one(recipe: &mut Recipe<'_>, out: &mut Vec<u8>) -> Option<(ClientOperationKind, Option<Vec<u8>>)> {
    let start = out.len();
    match recipe.byte() % 8 {
        0 => {
            let (subject, reply, payload) = (recipe.piece(), recipe.piece(), recipe.piece());
            Subject::check_literal(subject).ok()?;
            let reply = optional(reply, Subject::check_literal)?;
            encode::publish(out, subject, reply, payload);
            check_arguments(
                &out[start..],
                &[Some(b"PUB"), Some(subject), reply, Some(text(payload.len()).as_bytes())],
            );
            check_in_two(&out[start..], payload, |line| {
                encode::publish_line(line, subject, reply, payload.len());
            });
            check_body(&out[start..], payload);
            Some((ClientOperationKind::Publish, Some(payload.to_vec())))
        }
        1 => {
            let (subject, payload) = (Subject::literal(recipe.piece()).ok()?, recipe.piece());
            let prefix = encode::PublishPrefix::new(&subject);
            encode::publish_prefixed(out, &prefix, payload);
            let mut plain = Vec::new();
            encode::publish(&mut plain, subject.as_bytes(), None, payload);
            assert_eq!(plain, out[start..]);
            check_in_two(&plain, payload, |line| {
                encode::publish_prefixed_line(line, &prefix, payload.len());
            });
            Some((ClientOperationKind::Publish, Some(payload.to_vec())))
        }
        2 => {
            let (subject, reply, payload) = (recipe.piece(), recipe.piece(), recipe.piece());
            let mut headers = Headers::new();
            for _ in 0..recipe.byte() % 4 {
                let (name, value) =
                    (std::str::from_utf8(recipe.piece()), std::str::from_utf8(recipe.piece()));
                headers.append(name.ok()?, value.ok()?).ok()?;
            }
            Subject::check_literal(subject).ok()?;
            let reply = optional(reply, Subject::check_literal)?;
            encode::publish_with_headers(out, subject, reply, &headers, payload);
            let mut body = Vec::new();
            headers.encode(&mut body);
            let (header_bytes, total_bytes) = (text(body.len()), text(body.len() + payload.len()));
            let sizes = [header_bytes.as_bytes(), total_bytes.as_bytes()];
            check_arguments(
                &out[start..],
                &[Some(b"HPUB"), Some(subject), reply, Some(sizes[0]), Some(sizes[1])],
            );
            check_in_two(&out[start..], payload, |line| {
                encode::publish_with_headers_line(line, subject, reply, &headers, payload.len());
            });
            body.extend_from_slice(payload);
            check_body(&out[start..], &body);
            Some((ClientOperationKind::Publish, Some(body)))
        }
        3 => {
            let (subject, queue, sid) = (recipe.piece(), recipe.piece(), Sid::from_raw(recipe.number()));
            Subject::check_pattern(subject).ok()?;
            let queue = optional(queue, |queue| QueueGroup::new(queue).map(|_| ()))?;
            encode::subscribe(out, subject, queue, sid);
            let sid = sid.to_string();
            check_arguments(&out[start..], &[Some(b"SUB"), Some(subject), queue, Some(sid.as_bytes())]);
            Some((ClientOperationKind::Subscribe, None))
        }
        4 => {
            let sid = Sid::from_raw(recipe.number());
            let max = (recipe.byte() % 2 == 1).then(|| recipe.number());
            encode::unsubscribe(out, sid, max);
            let (sid, max) = (sid.to_string(), max.map(|max| max.to_string()));
            check_arguments(
                &out[start..],
                &[Some(b"UNSUB"), Some(sid.as_bytes()), max.as_deref().map(str::as_bytes)],
            );
            Some((ClientOperationKind::Unsubscribe, None))
        }
        5 => {
            encode::ping(out);
            Some((ClientOperationKind::Ping, None))
        }
        6 => {
            encode::pong(out);
            Some((ClientOperationKind::Pong, None))
        }
        _ => {
            let name = String::from_utf8_lossy(recipe.piece()).into_owned();
            let secret = String::from_utf8_lossy(recipe.piece()).into_owned();
            let options =
                ConnectOptions { name: Some(name), pass: Some(secret), ..ConnectOptions::default() };
            encode::connect(out, &options);
            let json: serde_json::Value =
                serde_json::from_slice(&out[start + "CONNECT ".len()..]).expect("JSON");
            assert_eq!(json["name"].as_str(), options.name.as_deref());
            assert_eq!(json["pass"].as_str(), options.pass.as_deref());
            assert_eq!(json["verbose"], false);
            Some((ClientOperationKind::Connect, None))
        }
    }
}

/// An empty piece means no argument; `None` if the argument is refused.
fn optional<E>(piece: &[u8], check: impl FnOnce(&[u8]) -> Result<(), E>) -> Option<Option<&[u8]>> {
    if piece.is_empty() {
        return Some(None);
    }
    check(piece).ok()?;
    Some(Some(piece))
}

fn text(number: usize) -> String {
    number.to_string()
}

/// The first line has these arguments and nothing else.
fn check_arguments(wire: &[u8], arguments: &[Option<&[u8]>]) {
    let line = wire.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let arguments: Vec<&[u8]> = arguments.iter().flatten().copied().collect();
    assert_eq!(line, [&arguments.join(&b' '), &b"\r"[..]].concat());
}

fn check_body(wire: &[u8], body: &[u8]) {
    assert!(wire.strip_suffix(b"\r\n").is_some_and(|wire| wire.ends_with(body)));
}

/// A line of its own and a payload sent after it are the same bytes.
fn check_in_two(wire: &[u8], payload: &[u8], line: impl FnOnce(&mut Vec<u8>)) {
    let mut in_two = Vec::new();
    line(&mut in_two);
    in_two.extend_from_slice(payload);
    in_two.extend_from_slice(b"\r\n");
    assert_eq!(wire, in_two);
}

/// All operations of `out`, which ends with the last of them.
fn walk(mut out: &[u8]) -> Vec<ClientOperation> {
    let mut operations = Vec::new();
    while !out.is_empty() {
        let operation = next_client_operation(out).expect("an operation");
        let (whole, rest) = out.split_at(operation.line_bytes + operation.body_bytes);
        assert!(whole.ends_with(b"\r\n"));
        operations.push(operation);
        out = rest;
    }
    operations
}
