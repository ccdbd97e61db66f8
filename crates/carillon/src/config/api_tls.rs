//! The keys of `[api]` that make its listener speak TLS.
//!
//! In: its table. Out: the files, mistakes by their keys. Elsewhere: what is in the files (crate `api`, room `tls`), the other keys (`config`).

use super::{NodeConfig, Reader, Section};
use cluster::node::Role;

impl Reader {
    /// The files of a listener that speaks TLS. They are looked at where it is served.
    pub(super) fn api_tls(&mut self, api: &mut Section<'_>, config: &mut NodeConfig) {
        let [cert, key, client_ca] =
            ["cert_file", "key_file", "client_ca_file"].map(|name| self.file(api, name));
        let (cert, key) = match (cert, key) {
            (Some(cert), Some(key)) => (cert, key),
            (None, None) => {
                if let Some(file) = client_ca {
                    let remedy = "certificates of administrators are shown by TLS: write api.cert_file and api.key_file, too, or remove this";
                    self.wrong("api.client_ca_file", &file.display().to_string(), remedy);
                }
                return;
            }
            (cert, _) => {
                let (missing, there) = if cert.is_some() {
                    ("api.key_file", "api.cert_file")
                } else {
                    ("api.cert_file", "api.key_file")
                };
                let remedy =
                    format!("missing; a certificate and its key go together: name both, or remove {there}");
                return self.wrong(missing, "", &remedy);
            }
        };
        let files = api::tls::Files { cert, key, client_ca };
        if config.api.is_some()
            && config.roles.has(Role::Portal)
            && let Err(error) = api::tls::Tls::read(files.clone())
        {
            self.wrong(error.setting, &error.file.display().to_string(), &error.remedy);
        }
        config.api_tls = Some(files);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Overrides, read_with};
    use std::path::PathBuf;

    #[test]
    fn a_certificate_of_the_api_and_its_key_go_together_and_can_be_read() {
        let with = |lines: &str| {
            let text = format!("[sip]\nlisten = [\"udp:127.0.0.1:5060\"]\n[api]\n{lines}");
            let (config, mistakes) = read_with(&text, &Overrides::new());
            let listed: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            if listed.is_empty() { Ok(config) } else { Err(listed) }
        };
        for (lines, begin, part) in [
            ("cert_file = \"a.pem\"", "api.key_file: missing", "api.cert_file"),
            ("key_file = \"a.key\"", "api.cert_file: missing", "api.key_file"),
            (
                "client_ca_file = \"ca.pem\"",
                "api.client_ca_file = ca.pem: ",
                "api.cert_file and api.key_file",
            ),
            (
                "listen = \"127.0.0.1:0\"\ncert_file = \"/nowhere/a.pem\"\nkey_file = \"a.key\"",
                "api.cert_file = /nowhere/a.pem: ",
                "that this user can read",
            ),
        ] {
            let listed = with(lines).unwrap_err();
            assert_eq!(listed.len(), 1, "{listed:?}");
            assert!(listed[0].starts_with(begin) && listed[0].contains(part), "{listed:?}");
        }
        let unused = with("cert_file = \"/nowhere/a.pem\"\nkey_file = \"/nowhere/a.key\"");
        assert!(unused.is_ok(), "files of what is not served are not looked at");
        let overrides = [("CARILLON__API__KEY_FILE".to_owned(), "b.key".to_owned())].into();
        let (config, _) = read_with("[api]\ncert_file = \"a.pem\"\nkey_file = \"a.key\"", &overrides);
        assert_eq!(config.api_tls.unwrap().key, PathBuf::from("b.key"));
    }
}
