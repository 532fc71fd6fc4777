//! One address in front of several replicas, as a Service is.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Hands each connection to the next replica that takes it.
pub struct Balancer {
    replicas: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Balancer {
    pub fn start(listen: SocketAddr, replicas: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind(listen).expect("the address of the Service is free");
        let replicas = Arc::new(Mutex::new(replicas));
        let known = Arc::clone(&replicas);
        thread::spawn(move || {
            let next = AtomicUsize::new(0);
            for client in listener.incoming().flatten() {
                let all = known.lock().expect("not poisoned").clone();
                let first = next.fetch_add(1, Ordering::Relaxed);
                let taken = (0..all.len()).find_map(|at| TcpStream::connect(all[(first + at) % all.len()]).ok());
                if let Some(replica) = taken {
                    join(client, replica);
                }
            }
        });
        Self { replicas }
    }

    /// As endpoints change, connections that stand stay.
    pub fn route(&self, replicas: Vec<SocketAddr>) {
        *self.replicas.lock().expect("not poisoned") = replicas;
    }
}

fn join(client: TcpStream, replica: TcpStream) {
    let both = || Ok::<_, std::io::Error>((client.try_clone()?, replica.try_clone()?));
    let Ok((client_again, replica_again)) = both() else { return };
    for stream in [&client, &replica] {
        let _ = stream.set_nodelay(true);
    }
    let pipe = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            let _ = copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    };
    pipe(client, replica);
    pipe(replica_again, client_again);
}
