//! JWTs of an operator, an account and its users, made and signed here.

use std::time::{SystemTime, UNIX_EPOCH};

use nkeys::KeyPair;
use serde_json::{Value, json};

/// An operator with one account, whose users it makes.
pub(crate) struct Accounts {
    operator: KeyPair,
    account: KeyPair,
}

/// A user's JWT, and the seed of its key.
pub(crate) struct User {
    pub(crate) jwt: String,
    pub(crate) seed: String,
    pub(crate) key: KeyPair,
}

impl Accounts {
    pub(crate) fn new() -> Accounts {
        Accounts { operator: KeyPair::new_operator(), account: KeyPair::new_account() }
    }

    /// The configuration of a server that knows the account.
    pub(crate) fn server_config(&self) -> String {
        let operator =
            jwt(&self.operator, &self.operator, &json!({ "type": "operator", "version": 2 }), None);
        let unlimited = json!({
            "limits": {
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
                "wildcards": true, "conn": -1, "leaf": -1
            },
            "type": "account",
            "version": 2
        });
        let account = jwt(&self.operator, &self.account, &unlimited, None);
        format!(
            "operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {}: {account} }}\n",
            self.account.public_key()
        )
    }

    /// A user whose JWT ends so many seconds from here, or never.
    pub(crate) fn user(&self, seconds: Option<i64>) -> User {
        let key = KeyPair::new_user();
        let claims = json!({ "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2 });
        User { jwt: jwt(&self.account, &key, &claims, seconds), seed: key.seed().unwrap(), key }
    }
}

impl User {
    /// As `nsc` writes it.
    pub(crate) fn creds(&self) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
            ************************* IMPORTANT *************************\n\n\
            -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            self.jwt, self.seed
        )
    }
}

fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: &Value, seconds: Option<i64>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let mut claims = json!({
        "jti": format!("{now}"),
        "iat": now - 3600,
        "iss": issuer.public_key(),
        "name": "croupier",
        "sub": subject.public_key(),
        "nats": nats,
    });
    if let Some(seconds) = seconds {
        claims["exp"] = json!(now + seconds);
    }
    let header = base64_url(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let signed = format!("{header}.{}", base64_url(claims.to_string().as_bytes()));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", base64_url(&signature))
}

/// Base64 with `-` and `_`, without padding, bit by bit.
fn base64_url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    bits.chunks(6)
        .map(|group| {
            let digit = (0..6).fold(0, |digit, bit| digit << 1 | group.get(bit).copied().unwrap_or(0));
            char::from(DIGITS[usize::from(digit)])
        })
        .collect()
}
