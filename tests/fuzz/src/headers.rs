//! What is read from a header block is what writing it again gives, and headers that callers make
//! are read back as they were made.

use croupier_protocol::limits::HEADER_COUNT_MAX;
use croupier_protocol::{Headers, status_code};

use super::recipe::Recipe;

/// The bytes are a header block, and then a recipe of one.
pub fn check(data: &[u8]) {
    check_block(data);
    check_made(data);
}

fn check_block(block: &[u8]) {
    let Ok(headers) = Headers::parse(block) else { return };
    assert!(headers.len() <= HEADER_COUNT_MAX);
    assert_eq!(headers.status().map(|status| status.code), status_code(block));
    check_written(&headers);
    for (name, value) in headers.iter() {
        assert!(!name.is_empty() && !name.contains(':'));
        assert!(!value.contains(['\r', '\n']));
        assert!(headers.get_all(name).any(|had| had == value));
    }
}

fn check_made(data: &[u8]) {
    let mut recipe = Recipe::new(data);
    let mut headers = Headers::new();
    let mut model: Vec<(String, String)> = Vec::new();
    while !recipe.is_empty() {
        let kind = recipe.byte() % 3;
        let name = String::from_utf8_lossy(recipe.piece()).into_owned();
        let value = String::from_utf8_lossy(recipe.piece()).into_owned();
        let kept = value.trim_matches([' ', '\t']).to_owned();
        match kind {
            0 if headers.append(&name, &value).is_ok() => model.push((name, kept)),
            1 if headers.insert(&name, &value).is_ok() => {
                let first = model.iter().position(|(had, _)| *had == name).unwrap_or(model.len());
                model.retain(|(had, _)| *had != name);
                model.insert(first, (name, kept));
            }
            2 => {
                let before = model.len();
                model.retain(|(had, _)| *had != name);
                assert_eq!(headers.remove(&name), before - model.len());
            }
            _ => {}
        }
    }
    let held: Vec<_> = headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(held, model);
    check_written(&headers);
}

fn check_written(headers: &Headers) {
    let mut block = Vec::new();
    headers.encode(&mut block);
    assert_eq!(block.len(), headers.encoded_len());
    assert_eq!(Headers::parse(&block).as_ref(), Ok(headers));
}
