//! The public attack lists (jwt_tool, RFC 8725 with its revision, CVEs of JWT libraries) over HTTP. Where an attack is about
//! what a token says, it is signed with the backend's own key: only the rule itself can refuse it.

use std::net::TcpListener;

use aws_lc_rs::hmac;
use backend_server::database::Database;
use backend_server::signing_keys;
use backend_token::SigningKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::harness::{Backend, on_both_databases, text};

/// A good token, taken apart, and the key that signed it.
struct Target {
    token: String,
    header: Value,
    claims: Value,
    key: SigningKey,
}

impl Target {
    async fn of(backend: &Backend) -> Self {
        let token = text(&backend.guest("Ada").await["access_token"]);
        Self::taking_apart(backend, token).await
    }

    async fn taking_apart(backend: &Backend, token: String) -> Self {
        let part = |place| {
            let bytes =
                URL_SAFE_NO_PAD.decode(token.split('.').nth(place).expect("three parts")).expect("base64");
            serde_json::from_slice(&bytes).expect("JSON")
        };
        let (header, claims) = (part(0), part(1));
        let database = Database::open(backend.database()).await.expect("opens");
        let key = signing_keys::published(&database).await.expect("keys").remove(0);
        database.close().await;
        Self { token, header, claims, key }
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        self.key.sign_parts(header.to_string().as_bytes(), claims.to_string().as_bytes()).expect("signed")
    }

    /// Well signed, with one header member changed.
    fn with_header(&self, name: &str, value: Value) -> String {
        self.signed(&with(&self.header, name, value), &self.claims)
    }

    /// Well signed, with one claim changed.
    fn with_claim(&self, name: &str, value: Value) -> String {
        self.signed(&self.header, &with(&self.claims, name, value))
    }

    /// Header and claims as texts, under the signature of the good token.
    fn resigned_by_nobody(&self, header: &Value, claims: &Value) -> String {
        let signature = self.token.rsplit('.').next().expect("a signature");
        format!("{}.{signature}", unsigned(header, claims))
    }
}

fn with(object: &Value, name: &str, value: Value) -> Value {
    let mut changed = object.clone();
    changed[name] = value;
    changed
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

/// Refused wherever a token can be shown, and none of it spoils the good one.
async fn all_refused(backend: &Backend, target: &Target, forgeries: Vec<String>, code: &str) {
    for forged in forgeries {
        for path in ["/v1/players/me/documents", "/v1/rooms"] {
            backend.get(path, &forged).await.refused(401, code);
        }
        backend.serve("/v1/validate", &json!({"token": forged})).await.refused(401, code);
    }
    backend.get("/v1/players/me/documents", &target.token).await.expect(200);
}

async fn ticket(backend: &Backend, server_id: &str, token: &str) -> String {
    let path = format!("/v1/rooms/{server_id}/ticket");
    text(&backend.post(&path, token, &json!({})).await.expect(200)["ticket"])
}

#[tokio::test]
async fn alg_none_in_every_spelling() {
    let backend = Backend::on_sqlite().await;
    let target = Target::of(&backend).await;
    let mut forgeries = Vec::new();
    for alg in ["none", "None", "NONE", "nOnE", "none ", "\u{0}none", ""] {
        let header = with(&target.header, "alg", json!(alg));
        forgeries.push(format!("{}.", unsigned(&header, &target.claims)));
        forgeries.push(unsigned(&header, &target.claims));
        forgeries.push(target.resigned_by_nobody(&header, &target.claims));
        forgeries.push(target.signed(&header, &target.claims));
    }
    for alg in [json!(null), json!(["none"]), json!(0), json!(true), json!({})] {
        forgeries.push(target.with_header("alg", alg));
    }
    all_refused(&backend, &target, forgeries, "token_invalid").await;
    backend.stop().await;
}

#[tokio::test]
async fn the_public_key_as_a_shared_secret() {
    let backend = Backend::on_sqlite().await;
    let target = Target::of(&backend).await;
    let jwk = target.key.jwk();
    let jwks = backend.get("/.well-known/jwks.json", "").await.expect(200).to_string();
    let secrets = [
        URL_SAFE_NO_PAD.decode(&jwk.x).expect("base64"),
        jwk.x.clone().into_bytes(),
        serde_json::to_vec(&jwk).expect("JSON"),
        jwks.into_bytes(),
        b"secret".to_vec(),
        Vec::new(),
    ];
    let mut forgeries = Vec::new();
    for (alg, hash) in [
        ("HS256", hmac::HMAC_SHA256),
        ("HS384", hmac::HMAC_SHA384),
        ("HS512", hmac::HMAC_SHA512),
        ("EdDSA", hmac::HMAC_SHA512),
    ] {
        for secret in &secrets {
            let signed = unsigned(&with(&target.header, "alg", json!(alg)), &target.claims);
            let tag = hmac::sign(&hmac::Key::new(hash, secret), signed.as_bytes());
            forgeries.push(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)));
        }
    }
    for alg in ["RS256", "PS256", "ES256", "ES384", "Ed25519", "eddsa"] {
        forgeries.push(target.with_header("alg", json!(alg)));
    }
    all_refused(&backend, &target, forgeries, "token_invalid").await;
    backend.stop().await;
}

#[tokio::test]
async fn keys_that_come_with_the_token_and_keys_it_points_to() {
    let backend = Backend::on_sqlite().await;
    let target = Target::of(&backend).await;
    let own = SigningKey::generate().expect("a key");
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    listener.set_nonblocking(true).expect("set");
    let url = format!("http://{}/jwks.json", listener.local_addr().expect("bound"));
    let mut forgeries = Vec::new();
    for (name, value) in [
        ("jwk", json!(own.jwk())),
        ("jku", json!(url)),
        ("jku", json!("file:///dev/null")),
        ("x5u", json!(url)),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("AAAA")),
    ] {
        let header = with(&target.header, name, value);
        for kid in [own.kid(), target.key.kid()] {
            let header = with(&header, "kid", json!(kid));
            forgeries.push(
                own.sign_parts(header.to_string().as_bytes(), target.claims.to_string().as_bytes())
                    .expect("signed"),
            );
        }
        // Also under our own signature: a verifier that reads such a member is one that can be talked into it.
        forgeries.push(target.signed(&header, &target.claims));
    }
    all_refused(&backend, &target, forgeries, "token_invalid").await;
    let called = listener.accept();
    assert!(called.is_err(), "the backend followed a URL out of a token");
    backend.stop().await;
}

#[tokio::test]
async fn kid_injection() {
    let backend = Backend::on_sqlite().await;
    let target = Target::of(&backend).await;
    let kid = target.key.kid();
    let names = [
        "../../../../dev/null".to_owned(),
        "/dev/null".to_owned(),
        format!("{kid}' OR '1'='1"),
        "x' UNION SELECT 'AAAA".to_owned(),
        format!("{kid}; sleep 10"),
        format!("{kid}\u{0}"),
        format!(" {kid}"),
        format!("{kid}%00"),
        kid.to_uppercase() + "x",
        "k".repeat(4_000),
        String::new(),
    ];
    let mut forgeries: Vec<String> =
        names.iter().map(|name| target.with_header("kid", json!(name))).collect();
    for kid in [json!(null), json!(1), json!([kid]), json!({"kid": kid})] {
        forgeries.push(target.with_header("kid", kid));
    }
    all_refused(&backend, &target, forgeries, "token_invalid").await;
    backend.stop().await;
}

#[tokio::test]
async fn extensions_nobody_understands() {
    let backend = Backend::on_sqlite().await;
    let target = Target::of(&backend).await;
    let mut forgeries = vec![
        target.with_header("crit", json!(["exp"])),
        target.with_header("crit", json!([])),
        target.with_header("crit", json!(null)),
        target.with_header("b64", json!(false)),
        target.with_header("zip", json!("DEF")),
        target.with_header("enc", json!("A256GCM")),
        target.with_header("cty", json!("JWT")),
        target.with_header("http://example.org/new", json!(1)),
    ];
    let unencoded = with(&with(&target.header, "b64", json!(false)), "crit", json!(["b64"]));
    forgeries.push(target.signed(&unencoded, &target.claims));
    all_refused(&backend, &target, forgeries, "token_invalid").await;
    backend.stop().await;
}

#[tokio::test]
async fn a_token_of_one_kind_is_not_another() {
    let backend = Backend::on_sqlite().await;
    let target = Target::of(&backend).await;
    let server = backend.server("Here", json!({})).await;
    let mut forgeries: Vec<String> =
        ["JWT", "at+jwt", "logout+jwt", "ACCESS+JWT", "application/access+jwt", "", "join+jwt"]
            .iter()
            .map(|typ| target.with_header("typ", json!(typ)))
            .collect();
    forgeries.push(target.with_header("typ", json!(null)));
    forgeries.push(target.with_header("typ", json!(["access+jwt"])));
    // A real ticket where an access token belongs.
    forgeries.push(ticket(&backend, &server, &target.token).await);
    all_refused(&backend, &target, forgeries, "token_invalid").await;
    // And an access token that says it is a ticket.
    let body = json!({"token": target.with_header("typ", json!("join+jwt")), "server_id": server});
    backend.serve("/v1/validate", &body).await.refused(401, "token_invalid");
    backend.stop().await;
}

#[tokio::test]
async fn claims_of_wrong_types_and_doubled_members() {
    let backend = Backend::on_sqlite().await;
    let target = Target::of(&backend).await;
    let mut forgeries = Vec::new();
    for (name, value) in target.claims.as_object().expect("claims") {
        // `sid` is not in the tokens of older versions.
        if name != "sid" {
            let mut without = target.claims.clone();
            without.as_object_mut().expect("claims").remove(name);
            forgeries.push(target.signed(&target.header, &without));
        }
        for wrong in [json!(null), json!([value]), json!({"v": value}), json!(true), json!(-1), json!(1.5)] {
            forgeries.push(target.with_claim(name, wrong));
        }
    }
    for name in ["exp", "iat"] {
        forgeries.push(target.with_claim(name, json!(target.claims[name].to_string())));
        forgeries.push(target.with_claim(name, json!(1e300)));
    }
    let (header, claims) = (target.header.to_string(), target.claims.to_string());
    for doubled in
        [r#"{"sub":"eve","#, r#"{"s\u0075b":"eve","#, r#"{"exp":4000000000,"#, r#"{"x":{"y":1,"y":2},"#]
    {
        forgeries.push(
            target
                .key
                .sign_parts(header.as_bytes(), claims.replacen('{', doubled, 1).as_bytes())
                .expect("signed"),
        );
    }
    for doubled in [r#"{"alg":"none","#, r#"{"typ":"join+jwt","#, r#"{"a\u006cg":"none","#] {
        forgeries.push(
            target
                .key
                .sign_parts(header.replacen('{', doubled, 1).as_bytes(), claims.as_bytes())
                .expect("signed"),
        );
    }
    all_refused(&backend, &target, forgeries, "token_invalid").await;
    backend.stop().await;
}

#[tokio::test]
async fn tampering_with_time() {
    let backend = Backend::on_sqlite().await;
    let target = Target::of(&backend).await;
    let (iat, exp) =
        (target.claims["iat"].as_u64().expect("iat"), target.claims["exp"].as_u64().expect("exp"));
    let lives = |iat: u64, exp: u64| with(&with(&target.claims, "iat", json!(iat)), "exp", json!(exp));
    let forgeries = vec![
        // Under the old signature.
        target.resigned_by_nobody(&target.header, &with(&target.claims, "exp", json!(exp + 60))),
        // Well signed.
        target.signed(&target.header, &lives(iat, iat + 3_601)),
        target.signed(&target.header, &lives(iat, iat)),
        target.signed(&target.header, &lives(iat, iat - 1)),
        target.signed(&target.header, &lives(iat, u64::MAX)),
        target.signed(&target.header, &lives(iat + 600, exp + 600)),
        target.with_claim("nbf", json!(iat + 600)),
        target.with_claim("nbf", json!("0")),
    ];
    all_refused(&backend, &target, forgeries, "token_invalid").await;
    let expired = vec![target.signed(&target.header, &lives(iat - 601, iat - 1))];
    all_refused(&backend, &target, expired, "token_expired").await;
    backend.stop().await;
}

#[tokio::test]
async fn other_shapes_of_a_token() {
    let backend = Backend::on_sqlite().await;
    let target = Target::of(&backend).await;
    let token = &target.token;
    let parts: Vec<&str> = token.split('.').collect();
    let json_form = json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string();
    let forgeries = vec![
        format!("{token}="),
        format!("{token}."),
        format!("{token}.{}", parts[2]),
        format!("{}..{}", parts[0], parts[2]),
        format!(".{}.{}", parts[1], parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode([0; 64])),
        format!("{}.{}.{}", parts[0], parts[1], &parts[2][..parts[2].len() - 4]),
        format!("{}.{}.{}.{}.{}", parts[0], parts[1], parts[2], parts[1], parts[2]),
        token.replace('-', "+").replace('_', "/") + "==",
        json_form,
    ];
    all_refused(&backend, &target, forgeries, "token_invalid").await;
    // Longer than any token: refused before anything is decoded.
    let long = target.with_claim("name", json!("x".repeat(8_000)));
    let refused = backend.serve("/v1/validate", &json!({"token": long})).await;
    assert_eq!((refused.status.as_u16(), refused.field()), (422, "token"), "{}", refused.body);
    assert!(backend.get("/v1/players/me/documents", &long).await.status.is_client_error());
    backend.stop().await;
}

#[tokio::test]
async fn tokens_of_another_backend_another_game_and_another_issuer() {
    let backend = Backend::on_sqlite().await;
    let target = Target::of(&backend).await;
    // Another environment, as a rule another database: the same issuer, another key.
    let staging = Backend::on_sqlite_with(|config| config.environment = "staging".into()).await;
    // Neighbours on the same database share the key, and tell tokens apart by what they say.
    let other_game = backend.beside(|config| config.game = "other".into()).await;
    let other_issuer = backend.beside(|config| config.issuer = "https://other.example".into()).await;
    for other in [&staging, &other_game, &other_issuer] {
        let theirs = Target::of(other).await;
        all_refused(&backend, &target, vec![theirs.token.clone()], "token_invalid").await;
        all_refused(other, &theirs, vec![target.token.clone()], "token_invalid").await;
    }
    let relabelled = vec![
        target.with_claim("aud", json!("game:other")),
        target.with_claim("iss", json!("https://other.example")),
        target.with_claim("aud", json!(["game:default", "game:other"])),
    ];
    all_refused(&backend, &target, relabelled, "token_invalid").await;
    // A ticket for a server there says nothing here.
    let there = staging.server("There", json!({})).await;
    let guest = text(&staging.guest("Ada").await["access_token"]);
    let misdirected = ticket(&staging, &there, &guest).await;
    let here = backend.server("Here", json!({})).await;
    for server_id in [&here, &there] {
        let body = json!({"token": misdirected, "server_id": server_id});
        backend.serve("/v1/validate", &body).await.refused(401, "token_invalid");
    }
    for neighbour in [staging, other_game, other_issuer] {
        neighbour.stop().await;
    }
    backend.stop().await;
}

on_both_databases! {
    async fn a_ticket_that_was_tampered_with_uses_up_nothing(backend) {
        let server = backend.server("Here", json!({})).await;
        let player = text(&backend.guest("Ada").await["access_token"]);
        let target = Target::taking_apart(backend, ticket(backend, &server, &player).await).await;
        let ask = async |token: String| {
            backend.serve("/v1/validate", &json!({"token": token, "server_id": server})).await
        };
        let iat = target.claims["iat"].as_u64().expect("iat");
        for forged in [
            target.resigned_by_nobody(&target.header, &with(&target.claims, "sub", json!("eve"))),
            target.with_claim("exp", json!(iat + 61)),
            target.with_claim("aud", json!("another-server")),
            target.with_header("typ", json!("access+jwt")),
            target.with_header("crit", json!(["x"])),
        ] {
            ask(forged).await.refused(401, "token_invalid");
        }
        ask(target.token.clone()).await.expect(200);
        ask(target.token.clone()).await.refused(409, "ticket_used");
        // The same use under another spelling of the same claims is still the same ticket.
        let respelt = target.key.sign_parts(target.header.to_string().as_bytes(), format!("{} ", target.claims).as_bytes()).expect("signed");
        ask(respelt).await.refused(409, "ticket_used");
    }
}
