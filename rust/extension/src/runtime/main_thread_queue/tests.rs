use std::sync::mpsc::channel;

use super::*;

#[test]
fn messages_run_in_order_also_those_enqueued_by_messages() {
    let (sender, seen) = channel();
    for number in 0..3 {
        let sender = sender.clone();
        enqueue(move || {
            sender.send(number).expect("receiver lives");
            enqueue(move || sender.send(number + 10).expect("receiver lives"));
        });
    }
    // The budget may end a drain early; nothing may be lost by that.
    let mut numbers = Vec::new();
    while numbers.len() < 6 {
        drain();
        numbers.extend(seen.try_iter());
    }
    assert_eq!(numbers, [0, 1, 2, 10, 11, 12]);
}
