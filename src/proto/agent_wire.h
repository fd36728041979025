/* agent_wire.h: what the agent inside QEMU and the daemon say to each other. Plain C, included by
 * both.
 *
 * Transport: Unix stream socket RUN_DIR/agent.sock; the agent connects.
 *
 * 1. Hand-off (agent → daemon), the form Firecracker uses for its own page-fault handlers: one
 * message whose body is a JSON array of regions and whose ancillary data carries the descriptors,
 * the userfaultfd first. Each element:
 *      {"base_host_virt_addr":u64,"size":bytes,"offset":bytes,"page_size":4096,"page_size_kib":4096,
 *       "ballast":{...}}
 *    (page_size_kib holds bytes, as in Firecracker.) The member "ballast" of element 0 says who the
 * VM is:
 *      {"version":1,"name":"web1","uuid":"…","memory_bytes":N,"min_bytes":N,"qmp":"path or empty",
 *       "ram_fd":1, "kept":["tables","arena","swap","pool"],
 *       "limit_bytes":N,"shares":"normal|low|high|number","balloon_max_bytes":N,
 *       "pshare":false, "salt":"text"}
 *    (the last five only where the VM has its own: what it starts with)
 *    and of every later element {"ram_fd":index among the descriptors}.
 *    Descriptors: [0] userfaultfd, [1..r] RAM files (several regions may name one), then the
 * discard bitmap's memfd, then the descriptors that the daemon had given to keep (tables, arena,
 * swap, and pool where it has one; "kept" names them in order; empty at the first connection). The
 * body holds no newline but one at its end, which ends the message: hand-offs of later regions and
 * kAgentDiscards share the stream, and a read may return several. A message that begins with '[' is
 * a hand-off. Its descriptors arrive with its first byte; the kernel never returns bytes behind a
 * message with descriptors in the same read. A RAM region that QEMU maps later is announced by
 * another message of the same form on the same socket: the whole array again. Regions keep their
 * order for ever; page numbers count through them in that order.
 *
 * 2. Verdict (daemon → agent): AgentMessage kAccept, with the descriptors to keep as ancillary data
 * when they are new (on the header's bytes, `count` of them: a prefix of tables, arena, swap, pool;
 * none = keep what you have); or kRefuse, followed by `bytes` of text for the user. The agent
 * blocks inside mmap64 until then; on refusal at the first connection it prints the text and exits
 * QEMU with status 1. A refused later region makes its mmap64 fail with ENOMEM and is left out of
 * all later hand-offs; the VM goes on. Only regions that fit memory_bytes are announced.
 *
 * 3. Afterwards, daemon → agent: kSample, followed by `count` AgentRange: zap these ranges'
 * page-table entries (the pages stay) so that the next touch can be seen. No reply. agent → daemon:
 * kDiscards: the discard bitmap has new bits (sent when `pending` in its header went 0 → 1).
 * daemon → agent: kShare, followed by `count` AgentShareRange: map these parts of the pool file
 * (descriptor "pool" of the kept ones) copy-on-write over the addresses, populated, registered with
 * the userfaultfd and write-protected; or kHome, followed by `count` AgentRange: bring what is
 * mapped there into the RAM file, and map that again. Each is answered, in order, by kRemapped with
 * `count` uint32: 0 where the range was done, else the errno with which nothing of it was
 * (ECANCELED: a page of it has its discard bit set). Before a guest's discard takes effect the
 * agent brings shared pages home by itself.
 *
 * 4. End of file on either side: the VM is gone, or the daemon is: the agent connects again every
 * 20 ms, for ever, and repeats step 1 with everything it keeps.
 *
 * The discard bitmap memfd: one page of DiscardHeader, then one bit per page of the VM, 64-bit
 * words. The agent sets bits before and after it lets QEMU punch a range, then sets pending. It is
 * made once for all memory_bytes of the VM, also while only some regions are mapped, and sealed
 * against shrinking (check F_GET_SEALS before mapping it).
 */
#ifndef BALLAST_PROTO_AGENT_WIRE_H_
#define BALLAST_PROTO_AGENT_WIRE_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  kAgentProtocolVersion = 1,
  kAgentMagic = 0x42414c41,          /* "BALA" */
  kAgentHandOffBytesMax = 16 * 1024, /* a longer hand-off is refused */
  kAgentRegionsMax = 16,
  kAgentDescriptorsMax = 24,
  kAgentSampleRangesMax = 1024,
  kAgentRemapRangesMax = 64,       /* of one kShare or kHome */
  kAgentRemapBytesMax = 64 * 4096, /* of one of their ranges */
  kAgentRefusalBytesMax = 2048,
  kDiscardHeaderBytes = 4096,
};

enum AgentMessageKind {
  kAgentAccept = 1,
  kAgentRefuse = 2,
  kAgentSample = 3,
  kAgentDiscards = 4,
  kAgentShare = 5,
  kAgentHome = 6,
  kAgentRemapped = 7,
};

/* Every message after the hand-off starts with this. */
struct AgentMessage {
  uint32_t magic; /* kAgentMagic */
  uint32_t kind;
  uint32_t count; /* ranges or results that follow; kAgentAccept: descriptors attached */
  uint32_t bytes; /* of payload after this header */
};

struct AgentRange {
  uint64_t address; /* host virtual, page-aligned, within a handed-over region */
  uint64_t bytes;
};

struct AgentShareRange {
  uint64_t address; /* as in AgentRange; the range lies in one region */
  uint64_t bytes;
  uint64_t pool_offset;
};

struct DiscardHeader {
  uint32_t pending; /* atomic: agent sets 1 and sends kAgentDiscards if it was 0; the daemon sets 0,
                       then reads bits */
  uint32_t pages;
};

#ifdef __cplusplus
}
#endif
#endif /* BALLAST_PROTO_AGENT_WIRE_H_ */
