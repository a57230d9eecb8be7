//! Worlds: leases, commits, objects and their way here.

use std::fmt::Write;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Backend, on_both_databases, text};

/// A chunk's raw bytes with their object.
struct Content {
    raw: Vec<u8>,
    stored: Vec<u8>,
    hash: String,
}

fn content(text: &str) -> Content {
    let raw = text.repeat(1000).into_bytes();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &raw);
    let hash = digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes it");
        text
    });
    Content { stored: zstd::bulk::compress(&raw, 3).expect("compresses"), raw, hash }
}

impl Content {
    fn chunk(&self, name: &str) -> Value {
        json!({"name": name, "hash": self.hash, "bytes": self.raw.len(), "stored_bytes": self.stored.len()})
    }
}

async fn open(backend: &Backend, server: &str) -> Answer {
    open_as(backend, server, 1).await
}

/// Epochs are counted, in whatever these helpers give and take: the first that the world was given is 1.
async fn open_as(backend: &Backend, server: &str, opening: u64) -> Answer {
    let body = json!({"server_id": server, "opening": opening});
    let mut answer = backend.serve("/v1/worlds/overworld/open", &body).await;
    if let Some(epoch) = answer.body["epoch"].as_i64() {
        answer.body["epoch"] = backend.ordinal("overworld", epoch).into();
    }
    answer
}

async fn release(backend: &Backend, server: &str, epoch: i64) {
    let epoch = backend.epoch("overworld", epoch);
    let body = json!({"server_id": server, "epoch": epoch});
    backend.serve("/v1/worlds/overworld/release", &body).await.expect(204);
}

async fn beat(backend: &Backend, server: &str, sequence: u64, worlds: Value) -> Answer {
    let body = json!({"sequence": sequence, "players": 0, "worlds": worlds});
    backend.serve(&format!("/v1/servers/{server}/heartbeat"), &body).await
}

async fn send(backend: &Backend, hash: &str, stored: &[u8]) -> Answer {
    let path = format!("/v1/worlds/overworld/objects/{hash}");
    let request = backend.request(Method::PUT, &path).bearer_auth(&backend.key).body(stored.to_vec());
    backend.send(request).await
}

async fn receive(backend: &Backend, hash: &str, range: &str) -> (u16, Vec<u8>) {
    let path = format!("/v1/worlds/overworld/objects/{hash}");
    let request = backend.request(Method::GET, &path).bearer_auth(&backend.key).header("range", range);
    let response = request.send().await.expect("a reply");
    (response.status().as_u16(), response.bytes().await.expect("a whole reply").to_vec())
}

async fn commit(
    backend: &Backend,
    server: &str,
    epoch: i64,
    sequence: i64,
    chunks: Vec<Value>,
    removed: Value,
) -> Answer {
    let epoch = backend.epoch("overworld", epoch);
    let body = json!({"server_id": server, "epoch": epoch, "sequence": sequence, "chunks": chunks, "removed": removed});
    backend.serve("/v1/worlds/overworld/commit", &body).await
}

async fn names(backend: &Backend) -> Vec<(String, i64)> {
    let page = backend.get("/v1/worlds/overworld/chunks", &backend.key).await.expect(200);
    let chunks = page["chunks"].as_array().expect("list");
    chunks.iter().map(|chunk| (text(&chunk["name"]), chunk["version"].as_i64().expect("number"))).collect()
}

fn named(names: &[(&str, i64)]) -> Vec<(String, i64)> {
    names.iter().map(|(name, version)| ((*name).to_owned(), *version)).collect()
}

/// Lets the lease of whoever holds the world run out.
async fn expire(backend: &Backend) {
    backend.execute("UPDATE worlds SET lease_until = 1").await;
}

on_both_databases! {
    async fn a_commit_is_applied_once_and_whole(backend) {
        let server = backend.server("A", json!({})).await;
        let (one, two) = (content("one"), content("two"));
        assert_eq!(open(backend, &server).await.expect(200), json!({"epoch": 1, "version": 0, "lease_seconds": 60}));
        assert_eq!(names(backend).await, []);
        let missing = commit(backend, &server, 1, 1, vec![one.chunk("a"), two.chunk("b")], json!([])).await;
        missing.refused(409, "object_missing");
        send(backend, &one.hash, &one.stored).await.expect(204);
        let half = commit(backend, &server, 1, 1, vec![one.chunk("a"), two.chunk("b")], json!([])).await;
        half.refused(409, "object_missing");
        assert_eq!(half.field(), "chunks[1].hash");
        assert_eq!(names(backend).await, [], "nothing was half-applied");
        send(backend, &two.hash, &two.stored).await.expect(204);
        send(backend, &two.hash, &two.stored).await.expect(204);
        let first = commit(backend, &server, 1, 1, vec![one.chunk("a"), two.chunk("b")], json!([])).await;
        assert_eq!(first.expect(200), json!({"version": 1, "replayed": false}));
        let second = commit(backend, &server, 1, 2, vec![one.chunk("terrain/0,0")], json!(["a", "never-there"])).await;
        assert_eq!(second.expect(200), json!({"version": 2, "replayed": false}));
        let again = commit(backend, &server, 1, 1, vec![one.chunk("a"), two.chunk("b")], json!([])).await;
        assert_eq!(again.expect(200), json!({"version": 1, "replayed": true}), "the first result");
        let other = commit(backend, &server, 1, 2, vec![two.chunk("terrain/0,0")], json!([])).await;
        other.refused(422, "invalid_field");
        assert_eq!(names(backend).await, named(&[("b", 1), ("terrain/0,0", 2)]));
    }

    async fn who_lost_the_world_overwrites_nothing(backend) {
        let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
        let one = content("one");
        open(backend, &a).await.expect(200);
        send(backend, &one.hash, &one.stored).await.expect(204);
        commit(backend, &a, 1, 1, vec![one.chunk("a")], json!([])).await.expect(200);
        open(backend, &b).await.refused(409, "world_held");
        expire(backend).await;
        // Expired, but nobody has taken it: its commits are still good, and keep it.
        commit(backend, &a, 1, 2, vec![one.chunk("late")], json!([])).await.expect(200);
        open(backend, &b).await.refused(409, "world_held");
        expire(backend).await;
        let taken = open(backend, &b).await.expect(200);
        assert_eq!((&taken["epoch"], &taken["version"]), (&json!(2), &json!(2)));
        let late = commit(backend, &a, 1, 3, vec![one.chunk("too-late")], json!([])).await;
        late.refused(409, "lease_lost");
        let replayed = commit(backend, &a, 1, 2, vec![one.chunk("late")], json!([])).await;
        assert_eq!(replayed.expect(200)["replayed"], true, "it was applied while the epoch lasted");
        open(backend, &a).await.refused(409, "world_held");
        assert_eq!(names(backend).await, named(&[("a", 1), ("late", 2)]));
    }

    async fn a_released_world_is_taken_at_once(backend) {
        let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
        open(backend, &a).await.expect(200);
        release(backend, &b, 1).await;
        release(backend, &a, 7).await;
        open(backend, &b).await.refused(409, "world_held");
        release(backend, &a, 1).await;
        assert_eq!(open(backend, &b).await.expect(200)["epoch"], 2);
        release(backend, &a, 1).await;
        open(backend, &a).await.refused(409, "world_held");
        release(backend, &b, 2).await;
        assert_eq!(open(backend, &b).await.expect(200)["epoch"], 3, "taken anew, by whomever");
    }

    async fn what_comes_late_of_an_opening_means_nothing_to_the_next(backend) {
        let server = backend.server("A", json!({})).await;
        assert_eq!(open_as(backend, &server, 1).await.expect(200)["epoch"], 1);
        assert_eq!(open_as(backend, &server, 1).await.expect(200)["epoch"], 1, "a lost reply");
        assert_eq!(open_as(backend, &server, 2).await.expect(200)["epoch"], 2);
        // The first one's request and its release, delivered late.
        open_as(backend, &server, 1).await.refused(409, "world_held");
        expire(backend).await;
        open_as(backend, &server, 1).await.refused(409, "world_held");
        release(backend, &server, 1).await;
        let held = open_as(backend, &server, 2).await;
        assert_eq!(held.expect(200)["epoch"], 2, "neither taken nor released");
        open_as(backend, &server, u64::MAX).await.refused(422, "invalid_field");
    }

    async fn a_heartbeat_keeps_the_worlds_it_names(backend) {
        let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
        open(backend, &a).await.expect(200);
        expire(backend).await;
        beat(backend, &a, 1, json!(["elsewhere", "overworld"])).await.expect(200);
        open(backend, &b).await.refused(409, "world_held");
        expire(backend).await;
        beat(backend, &b, 1, json!(["overworld"])).await.expect(200);
        beat(backend, &a, 2, json!([])).await.expect(200);
        assert_eq!(open(backend, &b).await.expect(200)["epoch"], 2, "its holder says nothing of it");
        let unnamed = beat(backend, &a, 3, json!(["overworld", "a/b"])).await;
        unnamed.refused(422, "invalid_field");
        assert_eq!(unnamed.field(), "worlds[1]");
        beat(backend, &a, 3, json!(vec!["w"; 1_001])).await.refused(422, "invalid_field");
    }

    async fn objects_are_what_they_are_sent_as(backend) {
        let one = content("one");
        let other = content("other");
        send(backend, &one.hash, &other.stored).await.refused(422, "object_invalid");
        send(backend, &one.hash, &one.raw).await.refused(422, "object_invalid");
        send(backend, &one.hash, &one.stored[..one.stored.len() - 1]).await.refused(422, "object_invalid");
        send(backend, &one.hash, &[]).await.refused(422, "object_invalid");
        send(backend, "no-hash", &one.stored).await.refused(422, "invalid_field");
        let uploads = |hashes: Value| async move {
            backend.serve("/v1/worlds/overworld/uploads", &json!({"hashes": hashes})).await
        };
        assert_eq!(uploads(json!([one.hash])).await.expect(200), json!({"objects": [{"hash": one.hash, "present": false}]}));
        send(backend, &one.hash, &one.stored).await.expect(204);
        let both = uploads(json!([other.hash, one.hash])).await.expect(200);
        assert_eq!((&both["objects"][0]["present"], &both["objects"][1]["present"]), (&json!(false), &json!(true)));
        uploads(json!([])).await.refused(422, "invalid_field");
        let downloads = backend.serve("/v1/worlds/overworld/downloads", &json!({"hashes": [other.hash, one.hash]})).await.expect(200);
        assert_eq!(downloads, json!({"objects": [{"hash": one.hash, "stored_bytes": one.stored.len()}]}));
        // Last: the connection ends with the rest of the body unread.
        send(backend, &one.hash, &vec![0; 17 * 1024 * 1024]).await.refused(413, "body_too_large");
    }

    async fn a_sequence_far_ahead_is_refused(backend) {
        let server = backend.server("A", json!({})).await;
        let one = content("one");
        open(backend, &server).await.expect(200);
        send(backend, &one.hash, &one.stored).await.expect(204);
        for sequence in [i64::MAX, (1 << 32) + 1] {
            let far = commit(backend, &server, 1, sequence, vec![one.chunk("a")], json!([])).await;
            far.refused(422, "invalid_field");
            assert_eq!(far.field(), "sequence");
        }
        commit(backend, &server, 1, 1 << 32, vec![one.chunk("a")], json!([])).await.expect(200);
    }

    async fn right_bytes_heal_a_wrong_object(backend) {
        let server = backend.server("A", json!({})).await;
        let (one, garbage) = (content("one"), content("garbage"));
        open(backend, &server).await.expect(200);
        send(backend, &one.hash, &one.stored).await.expect(204);
        commit(backend, &server, 1, 1, vec![one.chunk("a")], json!([])).await.expect(200);
        // As an earlier build, or a bad disk, left it.
        backend.spoil_objects(&garbage.stored);
        assert_ne!(receive(backend, &one.hash, "").await.1, one.stored);
        send(backend, &one.hash, &garbage.stored).await.refused(422, "object_invalid");
        send(backend, &one.hash, &one.stored).await.expect(204);
        assert_eq!(receive(backend, &one.hash, "").await.1, one.stored);
        // What nobody has verified counts as absent, for commits as well, until it is sent again.
        backend.execute("UPDATE world_objects SET verified = 0").await;
        backend.spoil_objects(&garbage.stored);
        let asked = backend.serve("/v1/worlds/overworld/uploads", &json!({"hashes": [one.hash]})).await.expect(200);
        assert_eq!(asked["objects"][0]["present"], false);
        commit(backend, &server, 1, 2, vec![one.chunk("b")], json!([])).await.refused(409, "object_missing");
        send(backend, &one.hash, &one.stored).await.expect(204);
        commit(backend, &server, 1, 2, vec![one.chunk("b")], json!([])).await.expect(200);
        assert_eq!(receive(backend, &one.hash, "").await.1, one.stored);
    }

    async fn an_object_is_read_whole_or_in_part(backend) {
        let one = content("one");
        send(backend, &one.hash, &one.stored).await.expect(204);
        assert_eq!(receive(backend, &one.hash, "bytes=0-").await, (206, one.stored.clone()));
        assert_eq!(receive(backend, &one.hash, "bytes=3-6").await, (206, one.stored[3..7].to_vec()));
        assert_eq!(receive(backend, &one.hash, "nonsense").await, (200, one.stored.clone()));
        assert_eq!(receive(backend, &one.hash, "bytes=100000000-").await.0, 422);
        let absent = format!("/v1/worlds/overworld/objects/{}", content("absent").hash);
        backend.get(&absent, &backend.key).await.refused(404, "not_found");
        let guest = text(&backend.guest("Ada").await["access_token"]);
        backend.get(&format!("/v1/worlds/overworld/objects/{}", one.hash), &guest).await.refused(401, "unauthorized");
    }

    async fn pages_are_complete_and_in_order(backend) {
        let server = backend.server("A", json!({})).await;
        let one = content("one");
        open(backend, &server).await.expect(200);
        send(backend, &one.hash, &one.stored).await.expect(204);
        let chunks = (0..150).map(|index| one.chunk(&format!("r.{index}"))).collect();
        commit(backend, &server, 1, 1, chunks, json!([])).await.expect(200);
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = backend.get(&format!("/v1/worlds/overworld/chunks?limit=40{cursor}"), &backend.key).await.expect(200);
            assert_eq!(page["version"], 1);
            seen.extend(page["chunks"].as_array().expect("list").iter().map(|chunk| text(&chunk["name"])));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 150);
        backend.get("/v1/worlds/overworld/chunks?cursor=%2e%2e", &backend.key).await.refused(400, "invalid_cursor");
        backend.get("/v1/worlds/overworld/chunks?limit=1001", &backend.key).await.refused(422, "invalid_field");
    }

    async fn bad_names_are_refused_by_field(backend) {
        let server = backend.server("A", json!({})).await;
        let one = content("one");
        backend.serve("/v1/worlds/a%2Fb/open", &json!({"server_id": server})).await.refused(422, "invalid_field");
        backend.serve("/v1/worlds/../open", &json!({"server_id": server})).await.refused(404, "not_found");
        open(backend, "nobody").await.refused(404, "server_unknown");
        open(backend, &server).await.expect(200);
        for name in ["", "/a", "a//b", "a/../b", "ä"] {
            let answer = commit(backend, &server, 1, 1, vec![one.chunk(name)], json!([])).await;
            answer.refused(422, "invalid_field");
            assert_eq!(answer.field(), "chunks[0].name", "{name}");
        }
        let twice = commit(backend, &server, 1, 1, vec![one.chunk("a")], json!(["a"])).await;
        twice.refused(422, "invalid_field");
        commit(backend, &server, 1, 1, vec![], json!([])).await.refused(422, "invalid_field");
    }
}

/// What is swept is what no chunk refers to and nobody asked about for a day.
#[tokio::test]
async fn unwanted_objects_go_and_wanted_ones_stay() {
    let backend = Backend::on_sqlite().await;
    let server = backend.server("A", json!({})).await;
    let (used, unused, young) = (content("used"), content("unused"), content("young"));
    open(&backend, &server).await.expect(200);
    for object in [&used, &unused] {
        send(&backend, &object.hash, &object.stored).await.expect(204);
    }
    commit(&backend, &server, 1, 1, vec![used.chunk("a")], json!([])).await.expect(200);
    backend.execute("UPDATE world_objects SET wanted_at = 1").await;
    send(&backend, &young.hash, &young.stored).await.expect(204);
    backend.sweep_worlds().await;
    assert_eq!(receive(&backend, &used.hash, "").await.0, 200);
    assert_eq!(receive(&backend, &unused.hash, "").await.0, 404);
    assert_eq!(receive(&backend, &young.hash, "").await.0, 200);
    let gone = commit(&backend, &server, 1, 2, vec![unused.chunk("b")], json!([])).await;
    gone.refused(409, "object_missing");
    backend.stop().await;
}
