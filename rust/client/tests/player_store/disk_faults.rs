//! The journal under the store: local acknowledgements, disks that fail, processes that die.

use backend_simulation::{Damaged, DiskTrouble, Trouble};

use super::*;

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_it_is_in_the_journal() {
    let backend = SimulatedBackend::new();
    let disk = disk();
    let server = Server::start(&backend, &disk).await;
    server.load("ada").await;
    disk.lock().write_takes = (10_000, 10_000);
    let revision = server.save("ada", 1);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!((server.store.unjournalled_count(), server.journalled()), (1, vec![]));
    assert_eq!(stored(&backend, "ada", "progress"), None, "not sent before it is journalled either");
    assert_eq!(server.store.flush_local(LONG).await, 0);
    assert_eq!(server.journalled(), [revision]);
    assert_eq!(disk.newest("ada", "progress", 1), Some(1));
}

#[tokio::test(start_paused = true)]
async fn what_the_backend_has_leaves_the_journal() {
    let backend = SimulatedBackend::new();
    let disk = disk();
    let server = Server::start(&backend, &disk).await;
    server.load("ada").await;
    server.save("ada", 1);
    server.store.flush(None, LONG).await;
    until(|| disk.saves().is_empty()).await;
}

/// Saves 2 while the disk fails as told, and again when it works.
async fn survives(trouble: DiskTrouble) {
    let backend = SimulatedBackend::new();
    let disk = disk();
    let server = Server::start(&backend, &disk).await;
    server.load("ada").await;
    let first = server.save("ada", 1);
    server.store.flush_local(LONG).await;
    disk.lock().trouble = Some(trouble);
    backend.set_outage(Some(Trouble::LostRequest));
    let second = server.save("ada", 2);
    assert_eq!(server.store.flush_local(Duration::from_secs(30)).await, 1, "not durable, and says so");
    assert!(server.heard(|event| matches!(event, Event::JournalFailed(error) if error.code() == "journal")));
    assert_eq!(server.journalled(), [first], "no false acknowledgement");
    // Saves are sent all the same.
    backend.set_outage(None);
    assert_eq!(server.store.flush(None, LONG).await, all_saved(1));
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(2)));
    // When the disk works again, all that is unsent goes to the journal.
    backend.set_outage(Some(Trouble::LostRequest));
    let third = server.save("ada", 3);
    assert_eq!(server.store.flush_local(Duration::from_secs(30)).await, 1);
    disk.lock().trouble = None;
    assert_eq!(server.store.flush_local(LONG).await, 0);
    assert!(server.heard(|event| *event == Event::JournalRecovered));
    assert!(!server.journalled().contains(&second));
    assert!(server.journalled().contains(&third));
    server.crash();
    backend.set_outage(None);
    let heir = Server::start(&backend, &disk).await;
    assert_eq!(number_of(&heir.load("ada").await, "progress"), Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_told_and_survived() {
    survives(DiskTrouble::Full).await;
}

#[tokio::test(start_paused = true)]
async fn a_read_only_disk_is_told_and_survived() {
    survives(DiskTrouble::ReadOnly).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_with_errors_is_told_and_survived() {
    survives(DiskTrouble::Io).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_of_unknown_outcome_is_written_again() {
    for (done, write) in [(false, 1), (true, 1), (false, 2), (true, 2), (false, 3), (true, 3)] {
        let backend = SimulatedBackend::new();
        let disk = disk();
        let server = Server::start(&backend, &disk).await;
        server.load("ada").await;
        server.load("eve").await;
        backend.set_outage(Some(Trouble::LostRequest));
        disk.lock().fail_write = Some((write, done));
        for number in 1..=3 {
            server.save("ada", number);
            server.save("eve", 10 * number);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(server.store.flush_local(LONG).await, 0);
        server.crash();
        backend.set_outage(None);
        let heir = Server::start(&backend, &disk).await;
        assert_eq!(number_of(&heir.load("ada").await, "progress"), Some(3));
        assert_eq!(number_of(&heir.load("eve").await, "progress"), Some(30));
        assert!(backend.state.lock().expect("not poisoned").conflicts.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_survives_a_crash() {
    let backend = SimulatedBackend::new();
    let disk = disk();
    let server = Server::start(&backend, &disk).await;
    server.load("ada").await;
    backend.set_outage(Some(Trouble::LostRequest));
    server.save("ada", 1);
    assert_eq!(server.store.flush_local(LONG).await, 0);
    server.crash();
    backend.set_outage(None);
    let heir = Server::start(&backend, &disk).await;
    let begun = tokio::time::Instant::now();
    let loaded = heir.load("ada").await;
    assert_eq!(number_of(&loaded, "progress"), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(5), "the dead server's lease was let go, not waited for");
    let state = backend.state.lock().expect("not poisoned");
    assert_eq!(
        state.documents[&("ada".to_owned(), "progress".to_owned())].applied,
        [(1, 1)],
        "under its own number"
    );
    assert_eq!(state.deregistered, ["server-1"]);
    assert_eq!((state.leases["ada"].epoch, state.leases["ada"].holder.as_deref()), (2, Some("server-2")));
}

#[tokio::test(start_paused = true)]
async fn a_reply_lost_in_a_crash_is_no_second_save_and_no_conflict() {
    let backend = SimulatedBackend::new();
    let (disk, other_disk) = (disk(), disk());
    let server = Server::start(&backend, &disk).await;
    server.load("ada").await;
    backend.set_outage(Some(Trouble::LostReply));
    server.save("ada", 1);
    until(|| stored(&backend, "ada", "progress").is_some()).await;
    server.crash();
    backend.set_outage(None);
    // Somebody else takes the player over when the lease has run out, and saves.
    let other = Server::start(&backend, &other_disk).await;
    other.load("ada").await;
    other.save("ada", 2);
    other.store.flush(None, LONG).await;
    let heir = Server::start(&backend, &disk).await;
    until(|| disk.saves().is_empty()).await;
    assert_eq!(heir.store.pending_count(), 0);
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(2)));
    assert!(backend.state.lock().expect("not poisoned").conflicts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_load_waits_for_what_was_left_over() {
    let backend = SimulatedBackend::new();
    let disk = disk();
    let server = Server::start(&backend, &disk).await;
    server.load("ada").await;
    backend.set_outage(Some(Trouble::LostRequest));
    server.save("ada", 1);
    server.store.flush_local(LONG).await;
    server.crash();
    backend.set_outage(None);
    let heir = Server::start(&backend, &disk).await;
    backend.set_outage(Some(Trouble::Unavailable));
    let error = heir.store.load("ada", Duration::from_secs(20)).await.expect_err("not yet");
    assert!(error.retryable, "{error:?}");
    backend.set_outage(None);
    assert_eq!(number_of(&heir.load("ada").await, "progress"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn crash_after_crash_with_the_backend_away_loses_nothing() {
    let backend = SimulatedBackend::new();
    let disk = disk();
    for round in 1..=4 {
        let server = Server::start(&backend, &disk).await;
        let player = format!("p{round}");
        server.load(&player).await;
        backend.set_outage(Some(Trouble::LostRequest));
        server.save(&player, round);
        server.store.flush_local(LONG).await;
        server.crash();
        // The next two find no backend and die without having done anything.
        for _ in 0..2 {
            let power = Power::new();
            let process = disk.process(&power);
            let opened = JournalSource::open(&*process, None).await.expect("opened");
            assert!(!opened.1.saves.is_empty());
            power.cut();
            disk.died(&process);
        }
        backend.set_outage(None);
    }
    let heir = Server::start(&backend, &disk).await;
    until(|| disk.saves().is_empty()).await;
    assert_eq!(heir.store.pending_count(), 0);
    for round in 1..=4 {
        assert_eq!(stored(&backend, &format!("p{round}"), "progress"), Some(content(round)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_made_anew_does_not_take_its_own_server_for_dead() {
    let backend = SimulatedBackend::new();
    let disk = disk();
    let Server { store, registration, process, power, .. } = Server::start(&backend, &disk).await;
    store.load("ada", LONG).await.expect("loaded");
    store.save("ada", "progress", content(1)).expect("taken");
    store.flush(None, LONG).await;
    let ended = store.ended();
    drop(store);
    ended.await;
    assert_eq!(disk.lock().slots[0].holder, None, "the journal is closed");
    let again = PlayerStore::new(Setup {
        backend: backend.clone(),
        clock: Arc::new(ProcessClock(power)),
        registration,
        journal: process,
        pace: Pace::default(),
        on_event: Arc::new(|_| {}),
    });
    assert_eq!(number_of(&again.load("ada", LONG).await.expect("loaded"), "progress"), Some(1));
    again.save("ada", "progress", content(2)).expect("taken");
    assert_eq!(again.flush(None, LONG).await, all_saved(1));
    // Whatever it is up to, it has done by then.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let state = backend.state.lock().expect("not poisoned");
    assert_eq!(state.deregistered, [""; 0], "the living server was deregistered");
    assert_eq!(state.leases["ada"].holder.as_deref(), Some("server-1"), "and its players let go");
}

#[tokio::test(start_paused = true)]
async fn a_second_process_of_the_folder_takes_the_next_journal() {
    let backend = SimulatedBackend::new();
    let disk = disk();
    let one = Server::start(&backend, &disk).await;
    let other = Server::start(&backend, &disk).await;
    one.load("ada").await;
    other.load("eve").await;
    backend.set_outage(Some(Trouble::LostRequest));
    one.save("ada", 1);
    other.save("eve", 2);
    assert_eq!((one.store.flush_local(LONG).await, other.store.flush_local(LONG).await), (0, 0));
    assert_eq!(disk.lock().slots.iter().map(|slot| slot.saves.len()).collect::<Vec<_>>(), [1, 1]);
    one.crash();
    other.crash();
    backend.set_outage(None);
    let heir = Server::start(&backend, &disk).await;
    assert_eq!(number_of(&heir.load("ada").await, "progress"), Some(1));
    assert_eq!(number_of(&heir.load("eve").await, "progress"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn what_a_process_leaves_that_dies_beside_another_is_sent_by_that_one() {
    let backend = SimulatedBackend::new();
    let disk = disk();
    let old = Server::start(&backend, &disk).await;
    old.load("ada").await;
    // A deploy: the new one has started before the old one is gone.
    let new = Server::start(&backend, &disk).await;
    backend.set_outage(Some(Trouble::LostRequest));
    old.save("ada", 1);
    assert_eq!(old.store.flush_local(LONG).await, 0);
    old.crash();
    backend.set_outage(None);
    assert_eq!(number_of(&new.load("ada").await, "progress"), Some(1));
    until(|| disk.saves().is_empty()).await;
    assert!(backend.state.lock().expect("not poisoned").conflicts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_journal_failed_is_not_taken_for_dead() {
    let backend = SimulatedBackend::new();
    let disk = disk();
    let old = Server::start(&backend, &disk).await;
    old.load("ada").await;
    disk.lock().fail_write = Some((1, false));
    old.save("ada", 1);
    until(|| old.heard(|event| matches!(event, Event::JournalFailed(_)))).await;
    let new = Server::start(&backend, &disk).await;
    new.load("eve").await;
    assert_eq!(old.store.flush(None, LONG).await, all_saved(1));
    {
        let state = backend.state.lock().expect("not poisoned");
        assert_eq!(state.deregistered, Vec::<String>::new());
        assert_eq!(state.leases["ada"].holder, old.registration.server_id());
    }
    // The journal that failed is emptied and used again.
    until(|| disk.lock().slots.iter().filter(|slot| slot.holder.is_some()).count() == 2).await;
    old.save("ada", 2);
    assert_eq!(old.store.flush_local(LONG).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_journal_is_kept_aside_and_told() {
    let backend = SimulatedBackend::new();
    let disk = disk();
    let first = Server::start(&backend, &disk).await;
    first.load("eve").await;
    first.crash();
    disk.damage_journal(0, Damaged::File);
    let server = Server::start(&backend, &disk).await;
    server.load("ada").await;
    assert!(server.heard(|event| matches!(event, Event::JournalWarning(_))));
    server.save("ada", 1);
    assert_eq!(server.store.flush_local(LONG).await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_being_taken_over_is_not_called_nothing() {
    let backend = SimulatedBackend::new();
    let disk = disk();
    let server = Server::start(&backend, &disk).await;
    server.load("ada").await;
    backend.set_outage(Some(Trouble::LostRequest));
    server.save("ada", 1);
    assert_eq!(server.store.flush_local(LONG).await, 0);
    // It looks what was left, and all is in the hands of a living process.
    let heir = Server::unregistered(&backend, &disk);
    until(|| !heir.store.is_recovering()).await;
    assert_eq!(heir.store.flush(None, LONG).await, all_saved(0));
    server.crash();
    backend.set_outage(None);
    disk.lock().write_takes = (1_000, 1_000);
    heir.registration.register(description()).await.expect("registered");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!heir.store.knows_what_was_left());
    let in_the_middle = heir.store.flush(None, Duration::from_millis(100)).await;
    assert_eq!((in_the_middle.unsaved, in_the_middle.journalled), (1, 1), "not known is not nothing");
    heir.store.flush(None, LONG).await;
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(1)));
    assert_eq!(heir.store.flush(None, LONG).await, all_saved(0));
}
