"""How much memory a child process took."""

# For child processes: their own peak in MB. After fork and exec, ru_maxrss still counts the parent.
PEAK_MB = """
def peak_mb():
    import pathlib, resource
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
"""
