//! Requests to valgrind's memcheck, which do nothing without it (x86-64).

/// `VG_USERREQ_TOOL_BASE('M', 'C')` and on, by valgrind/memcheck.h.
const TOOL_BASE: u64 = (b'M' as u64) << 24 | (b'C' as u64) << 16;
const MAKE_MEM_UNDEFINED: u64 = TOOL_BASE + 1;
const MAKE_MEM_DEFINED: u64 = TOOL_BASE + 2;

fn request(code: u64, start: *const u8, len: usize) {
    let arguments = [code, start as u64, len as u64, 0, 0, 0];
    // SAFETY: on a processor these rotations add up to nothing, and a register is exchanged with
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

/// Makes every later branch or index that depends on these bytes an error.
pub fn make_secret(bytes: *const u8, len: usize) {
    request(MAKE_MEM_UNDEFINED, bytes, len);
}

/// Declares these bytes public.
pub fn make_public(bytes: *mut u8, len: usize) {
    request(MAKE_MEM_DEFINED, bytes, len);
}
