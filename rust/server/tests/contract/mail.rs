//! Codes in mails: addresses that are proven, passwords that were forgotten, and what nobody else learns.

use backend_server::EmailAccounts;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::accounts::{account, as_player, log_in, refresh};
use crate::harness::{Answer, Backend, on_both_databases, text};

/// The code in a mail.
pub fn code(mail: &str) -> String {
    let line = mail.lines().find(|line| line.starts_with("    ")).expect("a mail with a code");
    line.trim().to_owned()
}

async fn register(backend: &Backend, email: &str, password: &str) -> Value {
    let body = json!({"email": email, "password": password, "display_name": "Ada"});
    backend.post("/v1/auth/register", "", &body).await.expect(201)
}

pub async fn reset(backend: &Backend, email: &str, code: &str, password: &str) -> Answer {
    let body = json!({"email": email, "code": code, "new_password": password});
    backend.post("/v1/auth/password/reset", "", &body).await
}

pub async fn forgotten(backend: &Backend, email: &str) -> Answer {
    backend.post("/v1/auth/password/forgotten", "", &json!({"email": email})).await
}

on_both_databases! {
    async fn an_address_is_proven_by_its_code(backend) {
        let ada = register(backend, "Ada@example.org", "correct horse").await;
        assert_eq!(account(backend, &ada).await["email_verified"], false);
        let mail = backend.mail(1).await;
        assert!(mail.contains("To: ada@example.org"), "{mail}");
        let wrong = json!({"code": "00000-00000"});
        as_player(backend, &ada, "/v1/account/email/verify", &wrong).await.refused(403, "mail_code_invalid");
        let right = json!({"code": code(&mail).to_lowercase()});
        let eve = backend.guest("Eve").await;
        as_player(backend, &eve, "/v1/account/email/verify", &right).await.refused(403, "mail_code_invalid");
        let verified = as_player(backend, &ada, "/v1/account/email/verify", &right).await.expect(200);
        assert_eq!(verified["email_verified"], true);
        as_player(backend, &ada, "/v1/account/email/verify", &right).await.refused(403, "mail_code_invalid");
    }

    async fn only_the_newest_code_is_good_and_few_are_sent(backend) {
        let ada = register(backend, "ada@example.org", "correct horse").await;
        let first = code(&backend.mail(1).await);
        backend.post("/v1/account/email/code", &text(&ada["access_token"]), &json!({})).await.expect(202);
        let second = code(&backend.mail(2).await);
        as_player(backend, &ada, "/v1/account/email/verify", &json!({"code": first})).await.refused(403, "mail_code_invalid");
        for _ in 0..3 {
            backend.post("/v1/account/email/code", &text(&ada["access_token"]), &json!({})).await.expect(202);
        }
        // Letters are written one after the other: with this one, the others have been judged.
        register(backend, "eve@example.org", "correct horse").await;
        let third = code(&backend.mail(3).await);
        assert!(backend.mail(4).await.contains("To: eve@example.org"), "the address gets three mails, then waits");
        as_player(backend, &ada, "/v1/account/email/verify", &json!({"code": second})).await.refused(403, "mail_code_invalid");
        as_player(backend, &ada, "/v1/account/email/verify", &json!({"code": third})).await.expect(200);
    }

    async fn a_forgotten_password_is_replaced(backend) {
        let ada = register(backend, "ada@example.org", "correct horse").await;
        backend.mail(1).await;
        let (known, unknown) = (forgotten(backend, "Ada@example.org").await, forgotten(backend, "eve@example.org").await);
        assert_eq!((known.status, &known.body), (unknown.status, &unknown.body));
        known.expect(202);
        let mailed = code(&backend.mail(2).await);
        reset(backend, "ada@example.org", "00000-00000", "battery staple").await.refused(403, "mail_code_invalid");
        reset(backend, "eve@example.org", &mailed, "battery staple").await.refused(403, "mail_code_invalid");
        reset(backend, "ada@example.org", &mailed, "battery staple").await.expect(204);
        reset(backend, "ada@example.org", &mailed, "battery staple").await.refused(403, "mail_code_invalid");

        refresh(backend, &ada).await.refused(401, "refresh_token_invalid");
        log_in(backend, "ada@example.org", "correct horse").await.refused(401, "invalid_credentials");
        let back = log_in(backend, "ada@example.org", "battery staple").await.expect(200);
        assert_eq!(back["player_id"], ada["player_id"]);
        assert_eq!(account(backend, &back).await["email_verified"], true);
    }

    async fn a_code_past_its_time_is_refused(backend) {
        register(backend, "ada@example.org", "correct horse").await;
        backend.mail(1).await;
        forgotten(backend, "ada@example.org").await.expect(202);
        let mailed = code(&backend.mail(2).await);
        backend.execute("UPDATE mail_codes SET expires_at = expires_at - 1800000 WHERE purpose = 'reset'").await;
        reset(backend, "ada@example.org", &mailed, "battery staple").await.refused(403, "mail_code_invalid");
    }

    /// Who registers another's address first must not stay in when its owner comes.
    async fn the_owner_of_an_address_throws_out_who_was_there_before(backend) {
        let thief = register(backend, "ada@example.org", "thief's password").await;
        let device = json!({"device_id": "0123456789abcdef"});
        as_player(backend, &thief, "/v1/account/link/device", &device).await.expect(200);
        backend.mail(1).await;
        forgotten(backend, "ada@example.org").await.expect(202);
        reset(backend, "ada@example.org", &code(&backend.mail(2).await), "battery staple").await.expect(204);
        let elsewhere = backend.post("/v1/auth/device", "", &device).await.expect(200);
        assert_ne!(elsewhere["player_id"], thief["player_id"]);
        refresh(backend, &thief).await.refused(401, "refresh_token_invalid");
    }

    async fn nobody_learns_who_has_an_account(backend, |config| config.email_accounts = Some(EmailAccounts::Verified)) {
        let ada = register(backend, "ada@example.org", "correct horse").await;
        // Not before the code has come back.
        log_in(backend, "ada@example.org", "correct horse").await.refused(401, "invalid_credentials");
        let proof = json!({"code": code(&backend.mail(1).await)});
        as_player(backend, &ada, "/v1/account/email/verify", &proof).await.expect(200);
        log_in(backend, "ada@example.org", "correct horse").await.expect(200);

        // To Eve, an address with an account and one without look the same.
        let taken = register(backend, "ada@example.org", "eve's password").await;
        let free = register(backend, "eve@example.org", "eve's password").await;
        let shape = |session: &Value| session.as_object().map(|members| members.keys().cloned().collect::<Vec<_>>());
        assert_eq!(shape(&taken), shape(&free));
        assert_ne!(taken["player_id"], ada["player_id"]);
        for (session, email) in [(&taken, "ada@example.org"), (&free, "eve@example.org")] {
            let account = account(backend, session).await;
            assert_eq!((&account["email"], &account["email_verified"]), (&json!(email), &json!(false)));
            log_in(backend, email, "eve's password").await.refused(401, "invalid_credentials");
            as_player(backend, session, "/v1/account/email/verify", &json!({"code": "00000-00000"})).await.refused(403, "mail_code_invalid");
        }
        let guest = backend.guest("Eve").await;
        let link = json!({"email": "ada@example.org", "password": "eve's password"});
        as_player(backend, &guest, "/v1/account/link/password", &link).await.expect(200);
        // Only the owner of the address is told, in a mail without a code.
        let news = backend.mail(2).await;
        assert!(news.contains("To: ada@example.org") && news.contains("has an account already"), "{news}");
        assert!(!news.lines().any(|line| line.starts_with("    ")), "{news}");
        log_in(backend, "ada@example.org", "correct horse").await.expect(200);
    }
}

/// Enough of RFC 5321 for one mail.
async fn mail_server(listener: TcpListener) -> String {
    let (stream, _) = listener.accept().await.expect("a client");
    let (reading, mut writing) = stream.into_split();
    let mut lines = BufReader::new(reading).lines();
    let mut data = String::new();
    writing.write_all(b"220 test\r\n").await.expect("greets");
    while let Some(line) = lines.next_line().await.expect("a line") {
        let reply: &[u8] = match line.split(' ').next() {
            Some("DATA") => {
                writing.write_all(b"354 go on\r\n").await.expect("replies");
                while let Some(line) = lines.next_line().await.expect("a line") {
                    if line == "." {
                        break;
                    }
                    data.push_str(&line);
                    data.push('\n');
                }
                writing.write_all(b"250 taken\r\n").await.expect("replies");
                return data;
            }
            Some("EHLO") => b"250 test\r\n",
            _ => b"250 fine\r\n",
        };
        writing.write_all(reply).await.expect("replies");
    }
    panic!("the client went without a mail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_takes_the_mail() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let url = format!("smtp://{}", listener.local_addr().expect("address"));
    let taken = tokio::spawn(mail_server(listener));
    let backend = Backend::on_sqlite_with(|config| {
        config.mail = backend_server::mail_target(&url).expect("target");
        config.mail_from = Some("Frog Race <frogs@example.org>".into());
        config.mail_name = Some("Frog Race".into());
    })
    .await;
    let ada = register(&backend, "ada@example.org", "correct horse").await;
    let mail = taken.await.expect("a mail");
    assert!(mail.contains("From: \"Frog Race\" <frogs@example.org>"), "{mail}");
    assert!(mail.contains("Subject: Frog Race: confirm your address"), "{mail}");
    // Where mails really go out, addresses are proven.
    log_in(&backend, "ada@example.org", "correct horse").await.refused(401, "invalid_credentials");
    as_player(&backend, &ada, "/v1/account/email/verify", &json!({"code": code(&mail)})).await.expect(200);
    log_in(&backend, "ada@example.org", "correct horse").await.expect(200);
    backend.stop().await;
}
