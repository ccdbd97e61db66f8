//! Membership and ownership through etcd: the shell around `cluster::member`.
