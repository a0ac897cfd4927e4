//! Requests to valgrind's memcheck; nothing happens when it is not there (x86-64).

/// `VG_USERREQ_TOOL_BASE('M', 'C')` and on, by valgrind/memcheck.h.
const TOOL_BASE: u64 = (b'M' as u64) << 24 | (b'C' as u64) << 16;
const MAKE_MEM_UNDEFINED: u64 = TOOL_BASE + 1;
const MAKE_MEM_DEFINED: u64 = TOOL_BASE + 2;

fn request(code: u64, start: *const u8, len: usize) {
    let arguments = [code, start as u64, len as u64, 0, 0, 0];
    // SAFETY: on a processor these rotations come round to where they began, and the exchange is of a register with
    // itself; valgrind knows the sequence, reads the arguments and puts its answer into rdx.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            inout("rdi") 0u64 => _,
            in("rax") arguments.as_ptr(),
            inout("rdx") 0u64 => _,
        );
    }
}

/// From here on a branch or an index that depends on these bytes is an error.
pub fn make_secret(bytes: *const u8, len: usize) {
    request(MAKE_MEM_UNDEFINED, bytes, len);
}

/// These bytes are known to everyone.
pub fn make_public(bytes: *mut u8, len: usize) {
    request(MAKE_MEM_DEFINED, bytes, len);
}
