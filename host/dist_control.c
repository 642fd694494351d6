// dist_control.c: reads the control message at the head of a frame. No socket, no Lua.
//
// A frame is 'p', the control tuple with a version byte and, for some operations, a payload with a
// version byte. Of a frame that is too big only the beginning is here: enough to tell whose it is.

#include "dist.h"

enum {
  OP_SEND = 2,
  OP_EXIT = 3,
  OP_EXIT2 = 8,
  OP_SEND_TT = 12,
  OP_EXIT_TT = 13,
  OP_EXIT2_TT = 18,
  OP_MONITOR_P_EXIT = 21,
  OP_SEND_SENDER = 22,
  OP_SEND_SENDER_TT = 23,
  OP_PAYLOAD_EXIT = 24,
  OP_PAYLOAD_EXIT_TT = 25,
  OP_PAYLOAD_EXIT2 = 26,
  OP_PAYLOAD_EXIT2_TT = 27,
  OP_PAYLOAD_MONITOR_P_EXIT = 28,
  OP_SPAWN_REPLY = 31,
  OP_SPAWN_REPLY_TT = 32,
  OP_UNLINK_ID = 35,
};

// Where the elements of an operation's tuple are (0: it has none; the operation is element 0).
typedef struct Layout {
  int op;
  ControlKind kind;
  uint32_t size; // of the tuple
  uint32_t id;
  uint32_t from;
  uint32_t to;
  uint32_t result;
  uint32_t body; // the reason, in the tuple itself
  bool has_payload;
} Layout;

static const Layout layouts[] = {
    {OP_SEND, CONTROL_SEND, 3, .to = 2, .has_payload = true},
    {OP_SEND_TT, CONTROL_SEND, 4, .to = 2, .has_payload = true},
    {OP_SEND_SENDER, CONTROL_SEND, 3, .from = 1, .to = 2, .has_payload = true},
    {OP_SEND_SENDER_TT, CONTROL_SEND, 4, .from = 1, .to = 2, .has_payload = true},
    {OP_EXIT, CONTROL_EXIT, 4, .from = 1, .to = 2, .body = 3},
    {OP_EXIT2, CONTROL_EXIT, 4, .from = 1, .to = 2, .body = 3},
    {OP_EXIT_TT, CONTROL_EXIT, 5, .from = 1, .to = 2, .body = 4},
    {OP_EXIT2_TT, CONTROL_EXIT, 5, .from = 1, .to = 2, .body = 4},
    {OP_MONITOR_P_EXIT, CONTROL_EXIT, 5, .from = 1, .to = 2, .body = 4},
    {OP_PAYLOAD_EXIT, CONTROL_EXIT, 3, .from = 1, .to = 2, .has_payload = true},
    {OP_PAYLOAD_EXIT_TT, CONTROL_EXIT, 4, .from = 1, .to = 2, .has_payload = true},
    {OP_PAYLOAD_EXIT2, CONTROL_EXIT, 3, .from = 1, .to = 2, .has_payload = true},
    {OP_PAYLOAD_EXIT2_TT, CONTROL_EXIT, 4, .from = 1, .to = 2, .has_payload = true},
    {OP_PAYLOAD_MONITOR_P_EXIT, CONTROL_EXIT, 4, .from = 1, .to = 2, .has_payload = true},
    {OP_SPAWN_REPLY, CONTROL_SPAWN_REPLY, 5, .to = 2, .result = 4},
    {OP_SPAWN_REPLY_TT, CONTROL_SPAWN_REPLY, 6, .to = 2, .result = 4},
    {OP_UNLINK_ID, CONTROL_UNLINK, 4, .id = 1, .from = 2, .to = 3},
};

static const Layout *find_layout(int32_t op)
{
  for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
    if (layouts[i].op == op) {
      return &layouts[i];
    }
  }
  return NULL;
}

static bool take_span(EtfReader *r, EtfSpan *span)
{
  span->at = r->at;
  if (!etf_skip(r)) {
    return false;
  }
  span->size = (size_t)(r->at - span->at);
  return true;
}

static bool take_element(EtfReader *r, const Layout *layout, uint32_t index, Control *out)
{
  EtfSpan span;
  EtfReader ahead = *r;
  if (index == layout->to) {
    // Only pids of ours are looked up: anything else there is nobody's.
    if (!etf_next(&ahead, &out->to)) {
      r->why = ahead.why;
      return false;
    }
  }
  if (!take_span(r, &span)) {
    return false;
  }
  if (index == layout->to) {
    out->to_span = span;
  } else if (index == layout->from) {
    out->from = span;
  } else if (index == layout->id) {
    out->id = span;
  } else if (index == layout->result) {
    out->result = span;
  } else if (index == layout->body) {
    out->body = span;
  }
  return true;
}

// Reads the tuple's elements after the operation. A cut frame ends where its reason begins.
static bool take_elements(EtfReader *r, const Layout *layout, bool whole, Control *out)
{
  for (uint32_t index = 1; index < layout->size; index++) {
    if (!whole && index == layout->body) {
      return true;
    }
    if (!take_element(r, layout, index, out)) {
      return false;
    }
  }
  return true;
}

bool control_parse(const uint8_t *bytes, size_t size, bool whole, Control *out, const char **why)
{
  EtfReader r;
  EtfToken tuple;
  EtfToken op;
  *out = (Control){.kind = CONTROL_OTHER};
  if (size == 0 || bytes[0] != 'p') {
    *why = "a frame has an unknown type";
    return false;
  }
  etf_init(&r, bytes + 1, size - 1);
  if (!etf_version(&r) || !etf_expect(&r, ETF_TUPLE, &tuple)) {
    *why = r.why;
    return false;
  }
  if (tuple.count == 0 || !etf_expect(&r, ETF_INTEGER, &op)) {
    *why = "a control message has no operation";
    return false;
  }
  const Layout *layout = find_layout(op.integer);
  if (!layout) {
    return true;
  }
  if (tuple.count != layout->size) {
    *why = "a control message has a wrong size";
    return false;
  }
  if (!take_elements(&r, layout, whole, out)) {
    *why = r.why;
    return false;
  }
  out->kind = layout->kind;
  if (layout->has_payload && whole) {
    if (!etf_version(&r)) {
      *why = r.why;
      return false;
    }
    out->body = (EtfSpan){r.at, (size_t)(r.end - r.at)};
  }
  return true;
}
