use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;

#[derive(Debug, Clone)]
struct Failed;

impl From<ReadEnded> for Failed {
    fn from(_: ReadEnded) -> Self {
        Self
    }
}

#[tokio::test]
async fn what_is_asked_while_a_read_runs_is_answered_by_the_next_one() {
    let loader: Arc<BatchLoader<(), usize, (usize, usize), Failed>> = Arc::default();
    let (reads, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let ask = |question| {
        let (loader, reads, gate) = (Arc::clone(&loader), Arc::clone(&reads), Arc::clone(&gate));
        tokio::spawn(async move {
            let read = move |(), questions: Vec<usize>| {
                let (read, gate) = (reads.fetch_add(1, Ordering::SeqCst), Arc::clone(&gate));
                async move {
                    gate.acquire().await.expect("open").forget();
                    Ok(questions.into_iter().map(|question| (read, question)).collect())
                }
            };
            loader.load((), question, read).await.expect("an answer")
        })
    };
    let first = ask(0);
    while reads.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let later: Vec<_> = (1..=5).map(ask).collect();
    while lock(&loader.0).get(&()).is_none_or(|waiting| waiting.len() < 5) {
        tokio::task::yield_now().await;
    }
    gate.add_permits(2);
    assert_eq!(first.await.expect("joined"), (0, 0));
    for (question, answer) in (1..).zip(later) {
        assert_eq!(answer.await.expect("joined"), (1, question), "one read for all that waited");
    }
    // And none is left behind.
    gate.add_permits(1);
    assert_eq!(ask(6).await.expect("joined"), (2, 6));
}

#[tokio::test]
async fn a_read_that_panics_leaves_nobody_waiting() {
    let loader: BatchLoader<(), (), (), Failed> = BatchLoader::default();
    let panics = |(), _: Vec<()>| async { panic!("on purpose") };
    assert!(loader.load((), (), panics).await.is_err());
    loader.load((), (), |(), _| async { Ok(vec![()]) }).await.expect("works again");
}
