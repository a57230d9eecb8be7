use super::*;

const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789";

/// A backend that counts the requests it answers.
fn counting_backend() -> (SocketAddr, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
    let address = listener.local_addr().expect("has an address");
    let executed = Arc::new(Mutex::new(0));
    let counter = executed.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accepts");
            let counter = counter.clone();
            thread::spawn(move || {
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
                    *counter.lock().expect("not poisoned") += 1;
                    if stream.write_all(REPLY).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, executed)
}

/// All that comes back for one request.
fn exchange(proxy: &FaultProxy) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(proxy.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"POST /here HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody")?;
    let mut reply = vec![0; REPLY.len()];
    let mut filled = 0;
    while filled < reply.len() {
        match stream.read(&mut reply[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    reply.truncate(filled);
    Ok(reply)
}

fn request(proxy: &FaultProxy) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(proxy.address)?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    stream.write_all(b"GET /here HTTP/1.1\r\n\r\n")?;
    stream.read(&mut [0; 64])
}

#[test]
fn every_fault_is_what_its_name_says() {
    let (upstream, executed) = counting_backend();
    let proxy = FaultProxy::start(upstream).expect("starts");
    assert!(request(&proxy).expect("forwards") > 0);

    proxy.set(Fault::DropReply { path: "/here".to_owned() });
    let error = request(&proxy).expect_err("no reply");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!((proxy.dropped_replies(), *executed.lock().expect("not poisoned")), (1, 2));

    proxy.set(Fault::DropReply { path: "/elsewhere".to_owned() });
    assert!(request(&proxy).expect("forwards") > 0);

    proxy.set(Fault::Reset);
    assert_eq!(request(&proxy).expect_err("cut").kind(), ErrorKind::ConnectionReset);

    proxy.set(Fault::Blackhole);
    assert!(matches!(
        request(&proxy).expect_err("silent").kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));

    proxy.set(Fault::Refuse);
    until("refusal", || {
        Ok(request(&proxy).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused).then_some(()))
    })
    .expect("refuses");

    proxy.set(Fault::None);
    until("recovery", || Ok(request(&proxy).is_ok().then_some(()))).expect("recovers");
    assert_eq!(proxy.requests("/here"), 6);
    let Struck { swallowed, reset, dropped, delayed, .. } = proxy.struck();
    assert_eq!((swallowed, reset, dropped, delayed), (1, 1, 1, 0));
    proxy.set(Fault::Delay(Duration::from_millis(1)));
    assert!(request(&proxy).expect("forwards") > 0);
    assert_eq!(proxy.struck().delayed, 1);
}

#[test]
fn a_duplicated_request_is_executed_twice_and_answered_once() {
    let (upstream, executed) = counting_backend();
    let proxy = FaultProxy::start(upstream).expect("starts");
    proxy.set(Fault::DuplicateRequest { path: "/here".to_owned() });
    let reply = exchange(&proxy).expect("forwards");
    assert_eq!(reply, REPLY);
    assert_eq!((proxy.struck().duplicated, *executed.lock().expect("not poisoned")), (1, 2));

    proxy.set(Fault::DuplicateRequest { path: "/elsewhere".to_owned() });
    assert_eq!(exchange(&proxy).expect("forwards"), REPLY);
    assert_eq!((proxy.struck().duplicated, *executed.lock().expect("not poisoned")), (1, 3));
}

#[test]
fn a_truncated_reply_ends_inside_its_body() {
    let (upstream, executed) = counting_backend();
    let proxy = FaultProxy::start(upstream).expect("starts");
    proxy.set(Fault::TruncateReply { path: "/here".to_owned() });
    let reply = exchange(&proxy).expect("begins");
    let start = http_message::body_start(&reply).expect("a whole head");
    assert!(REPLY.starts_with(&reply) && start < reply.len() && reply.len() < REPLY.len(), "{reply:?}");
    assert_eq!((proxy.struck().truncated, *executed.lock().expect("not poisoned")), (1, 1));
}

/// Sends a request with a body and says how its sending went: a large one is cut, a small one is not.
fn upload(proxy: &FaultProxy, size: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(proxy.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let head = format!("POST /here HTTP/1.1\r\ncontent-length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(&vec![b'x'; size])?;
    // The end in good order comes first; the write after it is what fails.
    let count = stream.read(&mut [0; 64])?;
    if count > 0 { Ok(()) } else { Err(ErrorKind::BrokenPipe.into()) }
}

#[test]
fn a_hang_up_cuts_what_is_still_being_sent() {
    let (upstream, _) = counting_backend();
    let proxy = FaultProxy::start(upstream).expect("starts");
    proxy.set(Fault::HangUp { path: "/here".to_owned() });
    assert!(upload(&proxy, 16 * 1024 * 1024).is_err());
    assert_eq!(proxy.struck().hung_up, 1);
    proxy.set(Fault::HangUp { path: "/elsewhere".to_owned() });
    upload(&proxy, 10).expect("forwards");
    assert_eq!(proxy.struck().hung_up, 1);
}

#[test]
fn a_remembered_request_comes_again_whenever_it_is_wanted() {
    let (upstream, executed) = counting_backend();
    let proxy = FaultProxy::start(upstream).expect("starts");
    exchange(&proxy).expect("forwards");
    proxy.remember("/here");
    exchange(&proxy).expect("forwards");
    exchange(&proxy).expect("forwards");
    assert_eq!(*executed.lock().expect("not poisoned"), 3);
    assert_eq!(proxy.repeat_remembered(None).expect("repeats"), [200, 200]);
    assert_eq!(*executed.lock().expect("not poisoned"), 5);
    assert_eq!(
        proxy.repeat_remembered(Some("body")).expect("repeats"),
        [200, 200],
        "as often as it is wanted"
    );
    assert!(proxy.repeat_remembered(Some("nobody")).expect("repeats").is_empty());
}
