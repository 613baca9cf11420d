use std::{
    future::poll_fn,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use super::{
    super::{
        BoundListener, ExecutorSettings, Socket, SocketSettings, run_executor, sleep, socket::SendHalf, spawn,
    },
    *,
};

/// How much waiting is too much, on the busiest machine.
const TOO_LONG: Duration = Duration::from_secs(30);

fn settings(spin: Duration) -> ExecutorSettings {
    ExecutorSettings { name: "lookout".to_owned(), cpu: None, spin, preempt_timer: None }
}

/// Runs `future` on an executor of its own and fails when it does not end.
fn run<T: Send + 'static, F: Future<Output = T>>(
    spin: Duration,
    future: impl FnOnce() -> F + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    let running = thread::spawn(move || {
        let outcome = run_executor(&settings(spin), |made| made.unwrap(), async move { future().await });
        sender.send(outcome.unwrap()).unwrap();
    });
    let outcome = receiver.recv_timeout(TOO_LONG).expect("the executor comes to an end");
    running.join().unwrap();
    outcome
}

fn socket_settings() -> SocketSettings {
    SocketSettings { connect_timeout: TOO_LONG, user_timeout: TOO_LONG, keepalive: TOO_LONG }
}

/// A server that does `serve` with the first who connects.
fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (address, thread::spawn(move || serve(listener.accept().unwrap().0)))
}

/// Says again what it is told, until the peer has no more to say.
fn echo(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = [0; 1024];
    while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
        stream.write_all(&buffer[..bytes]).unwrap();
    }
}

async fn read(socket: &mut Socket, buffer: &mut [u8]) -> usize {
    poll_fn(|cx| socket.poll_read(cx, buffer)).await.unwrap()
}

async fn round_trip(socket: &mut Socket, half: &SendHalf, number: u64) {
    assert_eq!(half.send(&number.to_be_bytes()).unwrap(), 8);
    let mut answer = [0; 64];
    let mut filled = 0;
    while filled < 8 {
        let bytes = read(socket, &mut answer[filled..]).await;
        assert_ne!(bytes, 0, "the peer has not ended");
        filled += bytes;
    }
    assert_eq!(answer[..filled], number.to_be_bytes());
}

/// How often the thread was left to the reactor during that many round trips.
fn rests_of(round_trips: u64, spin: Duration) -> u64 {
    let (address, serving) = server(echo);
    let rests = run(spin, move || async move {
        let mut socket = Socket::connect(address, &socket_settings()).await.unwrap();
        let half = socket.send_half();
        for number in 0..round_trips {
            round_trip(&mut socket, &half, number).await;
        }
        lookout().rests.get()
    });
    serving.join().unwrap();
    rests
}

#[test]
fn an_answer_is_awaited_without_the_reactor() {
    let round_trips = 2000;
    // A machine that lets the peer wait for a millisecond now and then sends the thread to rest now and then.
    let rests = rests_of(round_trips, Duration::ZERO);
    assert!(rests < round_trips / 2, "{rests} rests in {round_trips} round trips");
}

#[test]
fn the_same_by_spinning() {
    let round_trips = 500;
    let rests = rests_of(round_trips, Duration::from_millis(20));
    assert!(rests < round_trips / 2, "{rests} rests in {round_trips} round trips");
}

#[test]
fn what_comes_after_a_long_silence_is_seen_from_the_rest() {
    let (address, serving) = server(|mut stream| {
        for number in 0_u8..3 {
            thread::sleep(20 * LINGER);
            stream.write_all(&[number]).unwrap();
        }
    });
    let (told, rests) = run(Duration::ZERO, move || async move {
        let mut socket = Socket::connect(address, &socket_settings()).await.unwrap();
        let mut told = Vec::new();
        let mut buffer = [0; 8];
        loop {
            match read(&mut socket, &mut buffer).await {
                0 => return (told, lookout().rests.get()),
                bytes => told.extend_from_slice(&buffer[..bytes]),
            }
        }
    });
    serving.join().unwrap();
    assert_eq!(told, [0, 1, 2]);
    assert!(rests >= 3, "{rests}");
}

#[test]
fn an_end_right_behind_the_last_bytes_is_seen() {
    for _ in 0..50 {
        let (address, serving) = server(|mut stream| stream.write_all(b"last words").unwrap());
        run(Duration::ZERO, move || async move {
            let mut socket = Socket::connect(address, &socket_settings()).await.unwrap();
            let mut buffer = [0; 64];
            let mut filled = 0;
            loop {
                match read(&mut socket, &mut buffer[filled..]).await {
                    0 => break,
                    bytes => filled += bytes,
                }
            }
            assert_eq!(&buffer[..filled], b"last words");
        });
        serving.join().unwrap();
    }
}

#[test]
fn a_writer_waits_for_room_and_gets_it() {
    const BYTES: usize = 8 << 20;
    let (address, serving) = server(|mut stream| {
        thread::sleep(3 * LINGER);
        let mut buffer = vec![0; 1 << 16];
        let mut total = 0;
        while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            total += bytes;
        }
        assert_eq!(total, BYTES);
    });
    run(Duration::ZERO, move || async move {
        let mut socket = Socket::connect(address, &socket_settings()).await.unwrap();
        let bytes = vec![7; BYTES];
        let mut sent = 0;
        while sent < BYTES {
            sent += poll_fn(|cx| socket.poll_write(cx, &bytes[sent..])).await.unwrap();
        }
    });
    serving.join().unwrap();
}

#[test]
fn timers_come_in_their_order_and_never_early() {
    run(Duration::ZERO, || async {
        let (sender, receiver) = async_channel::unbounded();
        let begin = Instant::now();
        for wait in [30, 0, 7, 2, 12].map(Duration::from_millis) {
            let sender = sender.clone();
            spawn(async move {
                sleep(wait).await;
                assert!(begin.elapsed() >= wait);
                sender.send(wait.as_millis()).await.unwrap();
            });
        }
        drop(sender);
        let mut told = Vec::new();
        while let Ok(wait) = receiver.recv().await {
            told.push(wait);
        }
        assert_eq!(told, [0, 2, 7, 12, 30]);
    });
}

#[test]
fn a_timer_that_is_dropped_leaves_nothing_behind() {
    let left = run(Duration::ZERO, || async {
        for _ in 0..100 {
            futures_lite::future::or(sleep(TOO_LONG), sleep(Duration::ZERO)).await;
        }
        lookout().timers.borrow().len()
    });
    assert_eq!(left, 0);
}

#[test]
fn a_task_that_never_waits_keeps_nobody_from_sockets_and_timers() {
    let (address, serving) = server(echo);
    run(Duration::ZERO, move || async move {
        let is_over = Rc::new(Cell::new(false));
        let seen = Rc::clone(&is_over);
        let busy = spawn(poll_fn(move |cx| {
            if seen.get() {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        let mut socket = Socket::connect(address, &socket_settings()).await.unwrap();
        let half = socket.send_half();
        for number in 0..20 {
            round_trip(&mut socket, &half, number).await;
            sleep(Duration::from_micros(50)).await;
        }
        is_over.set(true);
        busy.join().await;
    });
    serving.join().unwrap();
}

#[test]
fn wakes_from_another_thread_come_in_however_the_thread_waits() {
    run(Duration::ZERO, || async {
        let (to, from_shard) = async_channel::bounded::<u32>(1);
        let (to_shard, from) = async_channel::bounded::<u32>(1);
        let other = thread::spawn(move || {
            while let Ok(number) = from_shard.recv_blocking() {
                // Some answers come at once, some when the thread rests.
                if number % 50 == 0 {
                    thread::sleep(3 * LINGER);
                }
                to_shard.send_blocking(number).unwrap();
            }
        });
        for number in 0..1000 {
            to.send(number).await.unwrap();
            assert_eq!(from.recv().await.unwrap(), number);
        }
        drop(to);
        other.join().unwrap();
    });
}

#[test]
fn the_reactor_is_looked_at_while_the_thread_is_busy() {
    run(Duration::ZERO, || async {
        let is_over = Rc::new(Cell::new(false));
        let seen = Rc::clone(&is_over);
        let busy = spawn(async move {
            while !seen.get() {
                sleep(Duration::from_micros(20)).await;
            }
        });
        // Not one of ours: an app may have whatever the executor's library has.
        for _ in 0..5 {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        is_over.set(true);
        busy.join().await;
    });
}

#[test]
fn who_connects_is_accepted_while_the_thread_is_busy() {
    run(Duration::ZERO, || async {
        let bound = BoundListener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = bound.address();
        let listener = bound.listen();
        let connecting = thread::spawn(move || {
            for _ in 0..20 {
                drop(TcpStream::connect(address).unwrap());
            }
        });
        let is_over = Rc::new(Cell::new(false));
        let seen = Rc::clone(&is_over);
        let busy = spawn(async move {
            while !seen.get() {
                sleep(Duration::from_micros(20)).await;
            }
        });
        for _ in 0..20 {
            let accepted = listener.accept().await.unwrap();
            drop(Socket::from_accepted(accepted, &socket_settings()).unwrap());
        }
        is_over.set(true);
        busy.join().await;
        connecting.join().unwrap();
        assert_eq!(lookout().watched.borrow().len(), 1, "the listener alone is watched");
    });
}

#[test]
fn tasks_that_wait_forever_are_freed_with_their_executor() {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    run(Duration::ZERO, move || async move {
        for _ in 0..10 {
            let waiting = Arc::clone(&held);
            spawn(async move {
                let _held = waiting;
                // Its waker is with itself alone, which would keep it alive for good.
                poll_fn(|cx| {
                    let _own = cx.waker().clone();
                    Poll::<()>::Pending
                })
                .await;
            });
            let sleeping = Arc::clone(&held);
            spawn(async move {
                let _held = sleeping;
                sleep(TOO_LONG).await;
            });
        }
        sleep(Duration::from_millis(1)).await;
    });
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn an_executor_that_ends_takes_its_lookout_with_it() {
    for rest in [Duration::ZERO, 3 * LINGER] {
        let bell = run(Duration::ZERO, move || async move {
            sleep(rest).await;
            Arc::downgrade(&lookout().bell)
        });
        assert!(bell.upgrade().is_none(), "after {rest:?}");
    }
}
