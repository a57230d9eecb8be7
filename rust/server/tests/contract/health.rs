//! What an operator and an orchestrator look at.

use serde_json::json;

use crate::harness::{Backend, on_both_databases};

on_both_databases! {
    async fn it_is_alive_ready_and_counted(backend) {
        backend.get("/healthz", "").await.expect(200);
        backend.get("/readyz", "").await.expect(200);
        backend.guest("Ada").await;
        let metrics = backend.get("/metrics", "").await.expect(200);
        let text = metrics.as_str().expect("text");
        assert!(text.contains("backend_requests_total{route=\"/v1/auth/anonymous\",status=\"200\"}"), "{text}");
    }
}

#[tokio::test]
async fn a_request_in_progress_is_finished_when_stopping() {
    let backend = Backend::on_sqlite().await;
    // Password hashing takes a while: long enough for the stop to come in between.
    let body = json!({"email": "ada@example.org", "password": "correct horse", "display_name": "Ada"});
    let request = backend.request(reqwest::Method::POST, "/v1/auth/register").json(&body);
    let running = tokio::spawn(request.send());
    let text =
        || async { backend.get("/metrics", "").await.expect(200).as_str().unwrap_or_default().to_owned() };
    let _seen_while_hashing = text().await;
    backend.stop().await;
    let outcome = running.await.expect("joined");
    // Either it had arrived and is answered in full, or the connection was never taken: never half an answer.
    if let Ok(response) = outcome {
        assert_eq!(response.status(), 201);
        assert!(response.json::<serde_json::Value>().await.expect("whole")["access_token"].is_string());
    }
}
