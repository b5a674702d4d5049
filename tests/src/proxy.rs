//! A proxy that breaks connections at chosen moments.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Long enough for a write of a test to be applied.
const APPLIED: Duration = Duration::from_millis(300);

/// What happens to the next chunk that carries data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Break {
    /// Nothing.
    Never = 0,
    /// The connection is cut, and the chunk does not arrive.
    Before = 1,
    /// Half of the chunk arrives.
    Within = 2,
    /// The chunk arrives and is worked on; the answer does not come back.
    After = 3,
    /// Every connection is cut at once, and new ones as well.
    Always = 4,
}

/// A proxy on a free port, in threads of its own that end with the process.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    next: AtomicU8,
    /// Least bytes of a chunk that carries data.
    data: AtomicUsize,
    /// Connections that were cut.
    cut: AtomicUsize,
}

impl State {
    /// Takes what happens next, which then has happened.
    fn take(&self) -> u8 {
        let always = Break::Always as u8;
        let taken = self.next.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |next| {
            (next != always).then_some(Break::Never as u8)
        });
        taken.unwrap_or(always)
    }

    fn is_always(&self) -> bool {
        self.next.load(Ordering::SeqCst) == Break::Always as u8
    }
}

impl Proxy {
    /// Starts it before this address.
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state =
            Arc::new(State { next: AtomicU8::new(0), data: AtomicUsize::new(0), cut: AtomicUsize::new(0) });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                thread::spawn(move || {
                    if !state.is_always()
                        && let Ok(server) = TcpStream::connect(target)
                    {
                        join(&client, &server, &state);
                    }
                });
            }
        });
        Self { address, state }
    }

    /// Its address for a client.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What happens to the next chunk of at least so many bytes.
    pub fn set(&self, next: Break, bytes: usize) {
        self.state.data.store(bytes, Ordering::SeqCst);
        self.state.next.store(next as u8, Ordering::SeqCst);
    }

    /// How many connections were cut on purpose.
    pub fn cut(&self) -> usize {
        self.state.cut.load(Ordering::SeqCst)
    }
}

fn join(client: &TcpStream, server: &TcpStream, state: &Arc<State>) {
    let muted = Arc::new(AtomicBool::new(false));
    let (mut from_server, mut to_client, is_muted) = (clone(server), clone(client), Arc::clone(&muted));
    let answers = thread::spawn(move || {
        let mut buffer = [0; 64 << 10];
        while let Ok(size @ 1..) = from_server.read(&mut buffer) {
            if !is_muted.load(Ordering::SeqCst) && to_client.write_all(&buffer[..size]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let (mut from_client, mut to_server) = (clone(client), clone(server));
    let mut buffer = [0; 64 << 10];
    let mut end = None::<Instant>;
    while let Ok(size @ 1..) = from_client.read(&mut buffer) {
        let is_data = size >= state.data.load(Ordering::SeqCst) || state.is_always();
        let what = if end.is_none() && is_data { state.take() } else { Break::Never as u8 };
        let passes = match what {
            what if what == Break::Never as u8 => size,
            what if what == Break::Within as u8 => size / 2,
            what if what == Break::After as u8 => {
                // The rest of the request still passes, and nothing comes back.
                muted.store(true, Ordering::SeqCst);
                end = Some(Instant::now() + APPLIED);
                let _ = from_client.set_read_timeout(Some(APPLIED));
                size
            }
            _ => 0,
        };
        if what != Break::Never as u8 {
            state.cut.fetch_add(1, Ordering::SeqCst);
        }
        if to_server.write_all(&buffer[..passes]).is_err() || passes < size {
            break;
        }
        if end.is_some_and(|end| Instant::now() > end) {
            break;
        }
    }
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    let _ = answers.join();
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a descriptor is free")
}
