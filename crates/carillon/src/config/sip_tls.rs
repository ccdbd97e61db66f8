//! The keys of `[sip]` and `[trunks]` that have to do with TLS.
//!
//! In: their tables. Out: the files, mistakes by their keys. Elsewhere: what is in the files (crate `proxy`, room `net::tls`), the other keys
//! (`config`, `trunks`).

use super::{ListenerConfig, NodeConfig, Reader, Section};
use cluster::node::Role;
use proxy::CertFiles;
use sip::flow::Transport;

impl Reader {
    /// The certificate of a section and its key.
    pub(super) fn certificate(&mut self, section: &mut Section<'_>) -> Option<CertFiles> {
        let [cert, key] = ["tls_cert_file", "tls_key_file"].map(|name| self.file(section, name));
        let (missing, there) = match (&cert, &key) {
            (Some(_), None) => ("tls_key_file", "tls_cert_file"),
            (None, Some(_)) => ("tls_cert_file", "tls_key_file"),
            _ => return Some(CertFiles { section: section.name, cert: cert?, key: key? }),
        };
        let remedy = format!(
            "missing; a certificate and its key go together: name both, or remove {}",
            section.key(there)
        );
        let missing = section.key(missing);
        self.wrong(&missing, "", &remedy);
        None
    }

    /// Whoever listens by TLS has a certificate, and the files can be read.
    pub(super) fn sip_tls(&mut self, config: &NodeConfig) {
        if !config.roles.has(Role::Proxy) {
            return;
        }
        let by_tls = |listeners: &[ListenerConfig]| {
            let found = listeners.iter().find(|listener| listener.transport == Transport::Tls);
            found.map(|listener| format!("tls:{}", listener.bind))
        };
        let is_wrong =
            |mistakes: &[super::Mistake]| mistakes.iter().any(|mistake| mistake.key.contains(".tls_"));
        if is_wrong(&self.mistakes) {
            return;
        }
        let own = config.tls.own.is_some();
        for (key, listener, has_one) in [
            ("sip.listen", by_tls(&config.listeners), own),
            ("trunks.listen", by_tls(&config.trunks.listeners), own || config.tls.trunks.is_some()),
        ] {
            if let Some(listener) = listener.filter(|_| !has_one) {
                let remedy = "a listener for TLS needs a certificate: name it in sip.tls_cert_file and its key in sip.tls_key_file";
                self.wrong(key, &listener, remedy);
            }
        }
        if let Err(error) = config.tls.check() {
            self.wrong(&error.setting, &error.file.display().to_string(), &error.remedy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;

    #[test]
    fn mistakes_name_the_key_and_the_way_out() {
        let udp = "[sip]\nlisten = [\"udp:127.0.0.1:5060\"]\n";
        let tls = "[sip]\nlisten = [\"tls:127.0.0.1:5061\"]\n";
        for (text, begin, part) in [
            (format!("{udp}tls_cert_file = \"a.pem\""), "sip.tls_key_file: missing", "sip.tls_cert_file"),
            (
                format!("{udp}[trunks]\ntls_key_file = \"a.key\""),
                "trunks.tls_cert_file: missing",
                "trunks.tls_key_file",
            ),
            (tls.to_owned(), "sip.listen = tls:127.0.0.1:5061: ", "sip.tls_cert_file"),
            (
                format!("{udp}[trunks]\nlisten = [\"tls:127.0.0.1:5061\"]"),
                "trunks.listen = tls:127.0.0.1:5061: ",
                "sip.tls_cert_file",
            ),
            (
                format!("{udp}[trunks]\ntls_ca_file = \"/nowhere/ca.pem\""),
                "trunks.tls_ca_file = /nowhere/ca.pem: ",
                "that this user can read",
            ),
            (
                format!("{tls}tls_cert_file = \"/nowhere/a.pem\"\ntls_key_file = \"/nowhere/a.key\""),
                "sip.tls_cert_file = /nowhere/a.pem: ",
                "that this user can read",
            ),
        ] {
            let listed: Vec<String> = read(&text).1.iter().map(ToString::to_string).collect();
            assert_eq!(listed.len(), 1, "{listed:?}");
            assert!(listed[0].starts_with(begin) && listed[0].contains(part), "{listed:?}");
        }
        let elsewhere = format!("[node]\nroles = [\"portal\"]\n{tls}");
        let listed = read(&elsewhere).1;
        assert!(listed.iter().all(|mistake| !mistake.key.contains("listen")), "{listed:?}");
    }
}
