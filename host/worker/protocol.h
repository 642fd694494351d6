// protocol.h: what the host and the sandbox's worker say to each other.
//
// Control socket (SOCK_SEQPACKET, host and zygote): one ControlMessage a packet.
// Channel (SOCK_STREAM, host and one child): frames of a u32 length (little endian, of the JSON
// alone), a type byte and JSON. Host to child: X, R. Child to host: C, N, D, E.

#ifndef BEAMLENS_PROTOCOL_H
#define BEAMLENS_PROTOCOL_H

#include <stdint.h>

#define CONTROL_FD 3 // of the zygote
#define CHANNEL_FD 3 // of a child

typedef enum ControlType {
  CONTROL_FORK = 'F',    // to the zygote: fork child `id`; its channel comes as SCM_RIGHTS
  CONTROL_KILL = 'K',    // to the zygote: kill child `id`
  CONTROL_READY = 'R',   // from the zygote: it works
  CONTROL_BROKEN = 'B',  // from the zygote: it cannot work; `text` says why
  CONTROL_STARTED = 'S', // from the zygote: child `id` has the pid `value`, or -errno
  CONTROL_EXITED = 'X',  // from the zygote: child `id` ended; `value` is wait()'s status
} ControlType;

typedef struct ControlMessage {
  uint32_t type;
  int32_t value;
  uint64_t id;
  char text[112];
} ControlMessage;

#define FRAME_HEADER 5
#define FRAME_EXECUTE 'X' // {code, args, fns, limits}
#define FRAME_REPLY 'R'   // {id, ok, values | error}
#define FRAME_CALL 'C'    // {id, fn, args}
#define FRAME_MEMORY 'N'  // the memory cap was hit for the first time
#define FRAME_DONE 'D'    // {ok: true, value, lossy, hint, output, output_truncated, stats}
#define FRAME_ERROR 'E'   // {ok: false, error{kind, message, line, traceback, hint}, ...}

#define MAX_FRAME (16u << 20)
#define MAX_CODE (256u << 10)
// The limits of a request may be lower than these three, not higher.
#define MAX_CALL_ARGS (256u << 10) // JSON of one call's arguments
#define MAX_REPLY (4u << 20)       // JSON of one call's answer
#define MAX_OUTPUT (64u << 10)     // printed text
#define MAX_OUTPUT_JSON (6 * MAX_OUTPUT)
#define MAX_ERROR_JSON (64u << 10) // an error frame without its output
#define MAX_VALUES 200000
#define MAX_DEPTH 32
#define DECODE_DEPTH 64

#define WORKER_STACK (256ul << 20) // of C, as much as the deepest recursion of a script needs

#define EXIT_BAD_REQUEST 2
#define EXIT_NO_REPORT 3

#endif
