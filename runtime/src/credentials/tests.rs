//! Credentials as texts and files, and what they put into a CONNECT.

use std::{env, fs};

use super::*;

const JWT: &str = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl";

fn connect(credentials: &Credentials, nonce: Option<&str>) -> Result<ConnectOptions, CredentialsError> {
    let mut options = ConnectOptions::default();
    credentials.fill(nonce, &mut options)?;
    Ok(options)
}

fn creds(jwt: &str, seed: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
        ************************* IMPORTANT *************************\n\
        NKEY Seed printed below can be used to sign and prove identity.\n\n\
        -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

/// A file that goes with the test.
struct TestFile(PathBuf);

impl TestFile {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = env::temp_dir().join(format!("croupier-credentials-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

#[test]
fn each_kind_fills_its_own_fields() {
    let options = connect(&Credentials::user_password("u", "p"), None).unwrap();
    assert_eq!((options.user.as_deref(), options.pass.as_deref()), (Some("u"), Some("p")));
    let options = connect(&Credentials::token("t"), None).unwrap();
    assert_eq!(options, ConnectOptions { auth_token: Some("t".to_owned()), ..ConnectOptions::default() });
    let options = connect(&Credentials::signed_nkey("U", [0xff, 0xfe]), None).unwrap();
    assert_eq!((options.nkey.as_deref(), options.sig.as_deref()), (Some("U"), Some("__4")));
    let options = connect(&Credentials::signed_jwt("j", [0]), None).unwrap();
    assert_eq!((options.jwt.as_deref(), options.sig.as_deref()), (Some("j"), Some("AA")));
}

#[test]
fn a_seed_signs_the_nonce_so_that_the_public_key_verifies_it() {
    let key = KeyPair::new_user();
    let seed = key.seed().unwrap();
    let signature = base64_url(&key.sign(b"nonce").unwrap());
    let options = connect(&Credentials::nkey_seed(seed.as_str()).unwrap(), Some("nonce")).unwrap();
    assert_eq!(options.nkey, Some(key.public_key()));
    assert_eq!(options.sig.as_ref(), Some(&signature));
    for credentials in
        [Credentials::jwt(JWT, seed.as_str()).unwrap(), Credentials::creds(&creds(JWT, &seed)).unwrap()]
    {
        let options = connect(&credentials, Some("nonce")).unwrap();
        assert_eq!((options.jwt.as_deref(), options.nkey), (Some(JWT), None));
        assert_eq!(options.sig.as_ref(), Some(&signature));
        assert!(matches!(connect(&credentials, None), Err(CredentialsError::NoNonce)));
    }
}

#[test]
fn what_is_no_seed_of_a_user_is_refused() {
    let account = KeyPair::new_account().seed().unwrap();
    let user = KeyPair::new_user();
    let broken = user.seed().unwrap().replace(|c: char| c.is_ascii_digit(), "A");
    for seed in ["", "SU", &account, &user.public_key(), &broken[..57], &"é".repeat(29), &"S".repeat(58)] {
        assert!(matches!(Credentials::nkey_seed(seed), Err(CredentialsError::InvalidSeed)), "{seed}");
    }
}

#[test]
fn a_creds_text_is_read_wherever_its_parts_stand() {
    let seed = KeyPair::new_user().seed().unwrap();
    let expected = Credentials::jwt(JWT, seed.as_str()).unwrap();
    for text in [
        creds(JWT, &seed),
        creds(JWT, &seed).replace('\n', "\r\n"),
        creds(&format!("{}\n  {}", &JWT[..20], &JWT[20..]), &seed),
        format!("---BEGIN SEED---\n{seed}\n---END---\n---BEGIN JWT---\n{JWT}\n---END---"),
    ] {
        assert!(Credentials::creds(&text).unwrap() == expected, "{text}");
    }
    let whole = creds(JWT, &seed);
    assert!(matches!(Credentials::creds(""), Err(CredentialsError::NoJwt)));
    assert!(matches!(Credentials::creds(&creds("", &seed)), Err(CredentialsError::NoJwt)));
    assert!(matches!(Credentials::creds(&creds(JWT, "")), Err(CredentialsError::NoSeed)));
    assert!(matches!(Credentials::creds(&creds(JWT, "x")), Err(CredentialsError::InvalidSeed)));
    for end in 0..whole.len() {
        // Cut anywhere, it is whole or an error, and never a panic.
        let _either = Credentials::creds(&whole[..end]);
    }
}

#[test]
fn files_are_read_anew_and_their_line_break_does_not_count() {
    let file = TestFile::new("password", "first\r\n");
    let auth = AuthConfig::password_file("u", &file.0);
    assert!(auth.has_files());
    assert_eq!(auth.read().unwrap(), Some(Credentials::user_password("u", "first")));
    fs::write(&file.0, " second ").unwrap();
    assert_eq!(auth.read().unwrap(), Some(Credentials::user_password("u", " second ")));
    assert_eq!(AuthConfig::token_file(&file.0).read().unwrap(), Some(Credentials::token(" second ")));
    let seed = KeyPair::new_user().seed().unwrap();
    fs::write(&file.0, format!("{seed}\n")).unwrap();
    let expected = Credentials::nkey_seed(seed.as_str()).unwrap();
    assert_eq!(AuthConfig::nkey_seed_file(&file.0).read().unwrap(), Some(expected.clone()));
    fs::write(&file.0, creds(JWT, &seed)).unwrap();
    assert_eq!(AuthConfig::nkey_seed_file(&file.0).read().unwrap(), Some(expected));
    let jwt = Credentials::jwt(JWT, seed).unwrap();
    assert_eq!(AuthConfig::creds_file(&file.0).read().unwrap(), Some(jwt));
}

#[test]
fn a_file_that_will_not_do_is_named_and_not_shown() {
    type E = CredentialsError;
    let check = |content: &[u8], auth: fn(PathBuf) -> AuthConfig, is_expected: fn(&E) -> bool| {
        let file = TestFile::new("bad", content);
        let error = auth(file.0.clone()).read().unwrap_err();
        assert!(is_expected(&error), "{error:?}");
        assert!(error.to_string().contains("croupier-credentials"), "{error}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    };
    check(b"\n", AuthConfig::token_file, |error| matches!(error, E::Empty { .. }));
    check(&[b'x'; SECRET_BYTES_MAX + 1], AuthConfig::token_file, |error| {
        matches!(error, E::TooLong { bytes_max: SECRET_BYTES_MAX, .. })
    });
    check(&vec![b'x'; CREDS_BYTES_MAX + 1], AuthConfig::creds_file, |error| {
        matches!(error, E::TooLong { .. })
    });
    check(b"canary\xff", AuthConfig::token_file, |error| matches!(error, E::NotUtf8 { .. }));
    check(b"canary", AuthConfig::nkey_seed_file, |error| matches!(error, E::InFile { .. }));
    check(b"canary", AuthConfig::creds_file, |error| matches!(error, E::InFile { .. }));
    let error = AuthConfig::token_file("/no/such/file").read().unwrap_err();
    assert!(matches!(error, E::Read { .. }), "{error:?}");
}

#[test]
fn nothing_shows_a_secret() {
    let seed = KeyPair::new_user().seed().unwrap();
    for credentials in [
        Credentials::user_password("app", "canary"),
        Credentials::token("canary"),
        Credentials::nkey_seed(seed.as_str()).unwrap(),
        Credentials::jwt("canary", seed.as_str()).unwrap(),
        Credentials::signed_nkey("U", "canary"),
        Credentials::signed_jwt("canary", "canary"),
    ] {
        let shown = format!("{credentials:?} {:#?}", AuthConfig::from(credentials.clone()));
        assert!(!shown.contains("canary") && !shown.contains(&seed), "{shown}");
    }
}

#[test]
fn base64_is_that_of_the_rfc() {
    for (bytes, text) in [
        (&b""[..], ""),
        (b"f", "Zg"),
        (b"fo", "Zm8"),
        (b"foo", "Zm9v"),
        (b"foob", "Zm9vYg"),
        (b"\xfb\xff", "-_8"),
    ] {
        assert_eq!(base64_url(bytes), text);
    }
}
