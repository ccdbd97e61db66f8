//! What the system says of this process: processor time, memory, open files.
//!
//! In: `/proc/self`. Out: samples with the names that all exporters of Prometheus use; what cannot be read is left out.

use crate::metrics::Page;
use std::fs::read_to_string;

/// Puts this process on a page.
pub fn process(page: &mut Page) {
    if let Some(seconds) = read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)) {
        page.counter_f64("process_cpu_seconds_total", "Processor time of the process.", seconds);
    }
    if let Some(kib) = read_to_string("/proc/self/status").ok().and_then(|status| resident_kib(&status)) {
        page.gauge("process_resident_memory_bytes", "Resident memory of the process.", kib * 1024.0);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        page.count("process_open_fds", "Open files and sockets of the process.", files.count());
    }
    if let Some(most) = read_to_string("/proc/self/limits").ok().and_then(|limits| most_files(&limits)) {
        page.gauge("process_max_fds", "Files and sockets that the process may have open.", most);
    }
    if let Ok(threads) = std::fs::read_dir("/proc/self/task") {
        page.count("process_threads", "Threads of the process.", threads.count());
    }
}

/// User and system time; the name before them may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn resident_kib(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn most_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 0 0";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_seconds(stat), Some(300.0 / ticks));
        assert_eq!(cpu_seconds("7 (a"), None);
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t   1234 kB\n"), Some(1234.0));
        assert_eq!(most_files("Limit  Soft\nMax open files   1024   4096   files\n"), Some(1024.0));
    }

    #[test]
    fn this_process_has_all_of_them() {
        let mut page = Page::default();
        process(&mut page);
        assert_eq!(page.families().len(), 5, "{page}");
    }
}
