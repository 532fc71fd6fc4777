//! Tells pods where Services are, as the DNS of a cluster does.

use std::net::{Ipv4Addr, UdpSocket};
use std::thread;

use anyhow::{Context, Result};

use crate::control_plane::ControlPlane;
use crate::enclosure::NAMES;
use crate::installation::run;
use crate::users::User;

pub(crate) const DOMAIN: &str = "cluster.local";

const HEADER: usize = 12;
/// Of records of addresses, IPv4 and IPv6.
const A: u16 = 1;

/// From now on, until the process ends.
pub(crate) fn answer(cp: &ControlPlane) -> Result<()> {
    let socket = UdpSocket::bind((NAMES, 53)).context("names of Services cannot be answered")?;
    let kubeconfig = cp.kubeconfig(User::Admin).to_owned();
    let kubectl = cp.kubectl(User::Admin).get_program().to_owned();
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let find = |namespace: &str, service: &str| {
                let mut kubectl = std::process::Command::new(&kubectl);
                kubectl.arg("--kubeconfig").arg(&kubeconfig).args(["get", "service", service, "-n", namespace]);
                let found = run(kubectl.args(["-o", "jsonpath={.spec.clusterIP}"]), "").ok()?;
                String::from_utf8_lossy(&found.stdout).parse().ok()
            };
            // Who is not answered asks again.
            if let Some(reply) = reply(&packet[..length], find) {
                let _ = socket.send_to(&reply, from);
            }
        }
    });
    Ok(())
}

fn reply(asked: &[u8], find: impl Fn(&str, &str) -> Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    while let length @ 1.. = usize::from(*asked.get(at)?) {
        labels.push(std::str::from_utf8(asked.get(at + 1..=at + length)?).ok()?);
        at += 1 + length;
    }
    let question = asked.get(HEADER..at + 5)?;
    let kind = u16::from_be_bytes([asked[at + 1], asked[at + 2]]);
    let found = match labels.as_slice() {
        [service, namespace, "svc", domain @ ..] if domain.join(".") == DOMAIN => find(namespace, service),
        _ => None,
    };
    // A name that exists has no address of another kind, and that is no error.
    let answers = u8::from(found.is_some() && kind == A);
    let code = if found.is_some() { 0 } else { 3 };
    let mut reply = [&asked[..2], &[0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0], question].concat();
    if let Some(address) = found.filter(|_| kind == A) {
        // The name of the question, an address, for five seconds.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(name: &str, kind: u8) -> Vec<u8> {
        let mut packet = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            packet.push(u8::try_from(label.len()).unwrap());
            packet.extend(label.bytes());
        }
        packet.extend([0, 0, kind, 0, 1]);
        packet
    }

    #[test]
    fn a_service_is_found_by_its_full_name_and_nothing_else_is() {
        let find = |namespace: &str, service: &str| {
            (namespace == "home" && service == "tagout").then_some(Ipv4Addr::new(10, 96, 1, 2))
        };
        let found = reply(&asking("tagout.home.svc.cluster.local", 1), find).unwrap();
        assert_eq!((&found[..4], &found[6..8]), (&[7, 9, 0x81, 0x80][..], &[0, 1][..]));
        assert!(found.ends_with(&[0, 4, 10, 96, 1, 2]));
        let other_kind = reply(&asking("tagout.home.svc.cluster.local", 28), find).unwrap();
        assert_eq!((other_kind[3], other_kind[7]), (0x80, 0));
        for missing in ["tagout.home.svc", "other.home.svc.cluster.local", "example.com"] {
            assert_eq!(reply(&asking(missing, 1), find).unwrap()[3], 0x83, "{missing}");
        }
        assert!(reply(&[0; 12], find).is_none() && reply(b"", find).is_none());
    }
}
