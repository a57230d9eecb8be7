//! Random changes, faults and deaths.

use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Remove(u8),
    Fault(&'static str, Trouble),
    Die,
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let call = prop_oneof![Just("commit_world"), Just("send_object"), Just("request_uploads")];
    let trouble =
        prop_oneof![Just(Trouble::LostReply), Just(Trouble::LostRequest), Just(Trouble::Unavailable)];
    prop_oneof![
        6 => (0u8..4, any::<u8>()).prop_map(|(name, data)| Step::Put(name, data)),
        2 => (0u8..4).prop_map(Step::Remove),
        3 => (call, trouble).prop_map(|(call, trouble)| Step::Fault(call, trouble)),
        1 => Just(Step::Die),
        1 => Just(Step::Flush),
    ]
}

/// Whatever is lost on the way and whenever the process dies: in the end the backend has what was acknowledged last, and
/// each commit was applied once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_arrives_once() {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        TestRunner::new(Runs { cases: 8, ..Runs::default() })
            .run(&proptest::collection::vec(step(), 1..30), |steps| {
                runtime.block_on(async {
                    let (backend, folder) = (SimulatedWorlds::new(), folder());
                    let (mut store, _news) = open(&backend, folder.path()).await;
                    let mut expected: HashMap<String, Vec<u8>> = HashMap::new();
                    for step in steps {
                        match step {
                            Step::Put(name, data) => {
                                put(&store, &format!("{name}"), &[data; 300]).await;
                                expected.insert(format!("{name}"), vec![data; 300]);
                            }
                            Step::Remove(name) => {
                                let ack = store.remove(&format!("{name}")).expect("taken");
                                ack.done().await.expect("durable");
                                expected.remove(&format!("{name}"));
                            }
                            Step::Fault(call, trouble) => backend.trouble(call, &[trouble]),
                            Step::Die => {
                                drop(store);
                                backend.calm();
                                store = open(&backend, folder.path()).await.0;
                            }
                            Step::Flush => drop(store.flush(Duration::from_millis(20)).await),
                        }
                    }
                    prop_assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
                    prop_assert_eq!(backend.contents(), expected);
                    let applied = backend.applied();
                    let mut once = applied.clone();
                    once.sort_unstable();
                    once.dedup();
                    prop_assert_eq!(applied, once, "in order, each once");
                    Ok(())
                })
            })
            .expect("holds");
    });
}
