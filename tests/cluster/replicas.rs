//! Replicas of Tagout behind one address, of which one after the other is lost.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use controlplane::Installation;

use crate::balancer::Balancer;

pub struct Replicas {
    balancer: Balancer,
    running: Vec<(SocketAddr, Child)>,
    started: usize,
}

impl Replicas {
    /// In the place of the one process of an installation.
    pub fn start(tagout: &mut Installation, many: usize) -> Result<Self> {
        tagout.kill()?;
        let balancer = Balancer::start(tagout.address(), Vec::new());
        let mut this = Self { balancer, running: Vec::new(), started: 0 };
        for _ in 0..many {
            this.add(tagout)?;
        }
        Ok(this)
    }

    /// Returns when it is ready.
    pub fn add(&mut self, tagout: &Installation) -> Result<()> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = tagout.replica_on(&format!("replica-{}", self.started), address)?;
        self.started += 1;
        self.running.push((address, child));
        let began = Instant::now();
        while !is_ready(address)? {
            ensure!(began.elapsed() < Duration::from_mins(2), "the replica is not ready");
            thread::sleep(Duration::from_millis(50));
        }
        self.balancer.route(self.running.iter().map(|(address, _)| *address).collect());
        Ok(())
    }

    /// As a node that is lost: nobody is told before. Another takes its place.
    pub fn lose_one(&mut self, tagout: &Installation) -> Result<()> {
        end(self.running.remove(0).1)?;
        self.add(tagout)
    }

    pub fn lose_all(&mut self) -> Result<()> {
        self.running.drain(..).try_for_each(|(_, child)| end(child))
    }
}

fn end(mut child: Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn is_ready(address: SocketAddr) -> Result<bool> {
    let mut curl = Command::new("curl");
    curl.args(["-sko", "/dev/null", "-w", "%{http_code}", "--max-time", "2", &format!("https://{address}/readyz")]);
    Ok(curl.output().context("curl is needed to ask whether a replica is ready")?.stdout == b"200")
}
