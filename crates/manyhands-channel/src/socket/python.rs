//! The handshake of CPython's `multiprocessing.connection`, as a machine that is fed with messages.
//!
//! Two challenges, one after the other; who listens begins. The answer to a challenge is an HMAC of
//! it under the common key. Source: Python's documentation and the wire of CPython 3.8 to 3.14.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::Sha256;

use super::error::AuthError;
use super::handshake::{Progress, Side};
use super::key::AuthKey;

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
pub(super) const FAILURE: &[u8] = b"#FAILURE#";
/// How challenges and answers begin that are not HMAC-MD5.
const SHA256: &[u8] = b"{sha256}";
const MD5: &[u8] = b"{md5}";
/// The random bytes of a challenge: CPython's number since 3.12.
const NONCE: usize = 40;
/// The length of a challenge of CPython before 3.12, and the least.
const LEGACY_CHALLENGE: usize = 20;
const LEGACY_ANSWER: usize = 16;

/// What is waited for.
#[derive(Debug)]
enum Stage {
    /// The answer to our challenge.
    Answer(Vec<u8>),
    /// Their challenge.
    Challenge,
    /// Whether they liked our answer.
    Verdict,
}

/// One end of a handshake.
#[derive(Debug)]
pub(super) struct Python {
    key: AuthKey,
    side: Side,
    legacy_md5: bool,
    stage: Stage,
}

impl Python {
    /// Begins; the message to send first, if this end does.
    pub(super) fn begin(
        key: AuthKey,
        side: Side,
        legacy_md5: bool,
    ) -> std::io::Result<(Self, Option<Vec<u8>>)> {
        let mut python = Self {
            key,
            side,
            legacy_md5,
            stage: Stage::Challenge,
        };
        let first = match side {
            Side::Listener => Some(python.challenge()?),
            Side::Client => None,
        };
        Ok((python, first))
    }

    /// Takes a message of the other end.
    pub(super) fn receive(&mut self, message: &[u8]) -> Result<Progress, AuthError> {
        match &self.stage {
            Stage::Answer(challenge) => {
                self.check(challenge, message)?;
                match self.side {
                    Side::Listener => {
                        self.stage = Stage::Challenge;
                        Ok(Progress::Send(WELCOME.to_vec()))
                    }
                    Side::Client => Ok(Progress::Done(Some(WELCOME.to_vec()))),
                }
            }
            Stage::Challenge => {
                let challenge = message.strip_prefix(CHALLENGE);
                let challenge = challenge.ok_or(AuthError::Foreign("no challenge came"))?;
                let answer = self.answer(challenge)?;
                self.stage = Stage::Verdict;
                Ok(Progress::Send(answer))
            }
            Stage::Verdict if message != WELCOME => Err(AuthError::Rejected),
            Stage::Verdict => match self.side {
                Side::Listener => Ok(Progress::Done(None)),
                Side::Client => {
                    let no_bytes = |_| AuthError::Foreign("this system has no random bytes");
                    Ok(Progress::Send(self.challenge().map_err(no_bytes)?))
                }
            },
        }
    }

    /// A new challenge, whose answer is then waited for.
    fn challenge(&mut self) -> std::io::Result<Vec<u8>> {
        let mut challenge = SHA256.to_vec();
        challenge.resize(SHA256.len() + NONCE, 0);
        getrandom::fill(&mut challenge[SHA256.len()..]).map_err(std::io::Error::other)?;
        let message = [CHALLENGE, &challenge].concat();
        self.stage = Stage::Answer(challenge);
        Ok(message)
    }

    /// The answer to a challenge of theirs, in the form that it asks for.
    fn answer(&self, challenge: &[u8]) -> Result<Vec<u8>, AuthError> {
        if challenge.len() < LEGACY_CHALLENGE {
            return Err(AuthError::Foreign("the challenge is too short"));
        }
        let is_legacy = challenge.len() == LEGACY_CHALLENGE || challenge.starts_with(MD5);
        if !is_legacy {
            let is_named = challenge.starts_with(b"{");
            return match is_named {
                true => {
                    let mac = self.sha256(challenge).finalize().into_bytes();
                    Ok([SHA256, &mac].concat())
                }
                false => Err(AuthError::Foreign("the challenge names no digest")),
            };
        }
        if !self.legacy_md5 {
            return Err(AuthError::Legacy);
        }
        let mac = self.md5(challenge).finalize().into_bytes();
        let name = if challenge.len() == LEGACY_CHALLENGE {
            &[]
        } else {
            MD5
        };
        Ok([name, &mac].concat())
    }

    /// Whether an answer to our challenge shows that they have the key; in constant time.
    fn check(&self, challenge: &[u8], answer: &[u8]) -> Result<(), AuthError> {
        let wrong = |_| AuthError::WrongKey;
        // CPython tells the forms apart by the length first.
        let legacy = match answer.len() {
            LEGACY_ANSWER => Some(answer),
            _ => answer.strip_prefix(MD5),
        };
        if let Some(mac) = legacy {
            return match self.legacy_md5 {
                true => self.md5(challenge).verify_slice(mac).map_err(wrong),
                false => Err(AuthError::Legacy),
            };
        }
        match answer.strip_prefix(SHA256) {
            Some(mac) => self.sha256(challenge).verify_slice(mac).map_err(wrong),
            None => Err(AuthError::WrongKey),
        }
    }

    fn sha256(&self, challenge: &[u8]) -> Hmac<Sha256> {
        Hmac::new_from_slice(self.key.as_bytes())
            .expect("a key may have any length")
            .chain_update(challenge)
    }

    fn md5(&self, challenge: &[u8]) -> Hmac<Md5> {
        Hmac::new_from_slice(self.key.as_bytes())
            .expect("a key may have any length")
            .chain_update(challenge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        (0..hex.len()).step_by(2).map(byte).collect()
    }

    fn ends(ours: &[u8], theirs: &[u8], legacy: [bool; 2]) -> (Python, Vec<u8>, Python) {
        let key = |bytes| AuthKey::new(bytes).expect("not empty");
        let begin = |key, side, legacy| Python::begin(key, side, legacy).expect("random bytes");
        let (listener, first) = begin(key(ours), Side::Listener, legacy[0]);
        let (client, nothing) = begin(key(theirs), Side::Client, legacy[1]);
        assert!(nothing.is_none());
        (listener, first.expect("who listens begins"), client)
    }

    fn sent(progress: Result<Progress, AuthError>) -> Vec<u8> {
        match progress.expect("it goes on") {
            Progress::Send(message) => message,
            Progress::Done(_) => panic!("it is not done"),
        }
    }

    #[test]
    fn ends_with_one_key_agree() {
        let (mut listener, first, mut client) = ends(b"secret", b"secret", [false; 2]);
        let answer = sent(client.receive(&first));
        assert!(answer.starts_with(SHA256) && answer.len() == 40);
        let verdict = sent(listener.receive(&answer));
        let challenge = sent(client.receive(&verdict));
        let answer = sent(listener.receive(&challenge));
        let Ok(Progress::Done(Some(welcome))) = client.receive(&answer) else {
            panic!("the client is done");
        };
        assert!(matches!(
            listener.receive(&welcome),
            Ok(Progress::Done(None))
        ));
    }

    #[test]
    fn other_keys_are_refused_by_who_looks_first() {
        let (mut listener, first, mut client) = ends(b"secret", b"other", [false; 2]);
        let answer = sent(client.receive(&first));
        assert_eq!(
            listener.receive(&answer).expect_err("wrong"),
            AuthError::WrongKey
        );
        assert_eq!(
            client.receive(FAILURE).expect_err("told so"),
            AuthError::Rejected
        );
    }

    /// Captured between two CPython 3.8 with the key `secret`.
    #[test]
    fn listener_11_legacy_answer_is_that_of_cpython() {
        let challenge = bytes("11c028c591e0cb7e4ff7831552f766d148ed5545");
        let expected = bytes("08069f8dc5468de272312db884a5ba82");
        let (_, _, mut client) = ends(b"secret", b"secret", [true; 2]);
        let message = [CHALLENGE, &challenge].concat();
        assert_eq!(sent(client.receive(&message)), expected);
        let (_, _, mut strict) = ends(b"secret", b"secret", [false; 2]);
        assert_eq!(
            strict.receive(&message).expect_err("forbidden"),
            AuthError::Legacy
        );
    }

    #[test]
    fn listener_11_answers_of_all_forms_are_checked() {
        for legacy in [false, true] {
            let (listener, first, _) = ends(b"secret", b"secret", [legacy; 2]);
            let challenge = first.strip_prefix(CHALLENGE).expect("a challenge");
            let md5 = listener.md5(challenge).finalize().into_bytes().to_vec();
            let sha = listener.sha256(challenge).finalize().into_bytes().to_vec();
            let check = |answer: &[u8]| listener.check(challenge, answer);
            let old = if legacy {
                Ok(())
            } else {
                Err(AuthError::Legacy)
            };
            assert_eq!(check(&md5), old);
            assert_eq!(check(&[MD5, &md5].concat()), old);
            assert_eq!(check(&[SHA256, &sha].concat()), Ok(()));
            assert_eq!(check(&sha), Err(AuthError::WrongKey));
            for at in 0..sha.len() {
                let mut wrong = sha.clone();
                wrong[at] ^= 1;
                assert_eq!(check(&[SHA256, &wrong].concat()), Err(AuthError::WrongKey));
                // Of 16 bytes in all it is taken for the other form.
                assert!(check(&[SHA256, &sha[..at]].concat()).is_err());
            }
        }
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        for message in [
            &b""[..],
            b"#CHALLENGE#",
            b"#CHALLENGE#0123456789012345678",
            b"GET / HTTP",
        ] {
            let (_, _, mut client) = ends(b"secret", b"secret", [true; 2]);
            assert!(matches!(
                client.receive(message),
                Err(AuthError::Foreign(_))
            ));
        }
        let (_, _, mut client) = ends(b"secret", b"secret", [true; 2]);
        let nameless = [CHALLENGE, &[b'x'; 48]].concat();
        assert!(matches!(
            client.receive(&nameless),
            Err(AuthError::Foreign(_))
        ));
    }
}
