//! Documents as games have them: small and large, with numbers and words of all kinds.

use backend_client::player_store::Content;
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use serde_json::json;

/// The `number`th content of a document: no two are equal.
pub fn draw(rng: &mut Xoshiro256PlusPlus, number: u64) -> Content {
    let filling = match rng.random_range(0..16) {
        0..4 => rng.random_range(0..64),
        4..13 => 2_048,
        13..15 => rng.random_range(4_096..16_384),
        _ => rng.random_range(32_768..131_072),
    };
    // Random letters, so that no two pages of a file are alike.
    let filling: String = (0..filling).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect();
    let mut content = Content::new();
    content.insert("number".into(), json!(number));
    content.insert("health".into(), json!(rng.random::<f64>()));
    content.insert("name".into(), json!("Fröschlein 🐸 \"\\\u{0}\n"));
    content.insert("position".into(), json!([rng.random::<f32>(), -0.0, i64::MIN, u64::MAX]));
    content.insert("filling".into(), json!(filling));
    content
}
