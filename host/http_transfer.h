// http_transfer.h: one HTTP exchange: its limits, what has arrived, and how it ended. Plain C.

#ifndef BEAMLENS_HTTP_TRANSFER_H
#define BEAMLENS_HTTP_TRANSFER_H

#include "byte_buffer.h"
#include "http_multi.h"
#include "http_route.h"
#include "resolver.h"

typedef struct TransferOptions {
  const char *url;    // all borrowed, and copied, but for the body
  const char *method; // NULL: GET, or POST with a body
  const char *body;   // NULL: none; must stay until transfer_close()
  size_t body_len;
  const char *ca_file;        // NULL: the system's
  struct curl_slist *headers; // owned: the transfer takes it, also when it cannot start
  long connect_timeout_ms;
  long idle_timeout_ms; // without a byte in either direction
  long timeout_ms;      // in all; 0: no limit
  size_t max_body_bytes;
} TransferOptions;

typedef struct Transfer {
  HttpMulti *multi;                 // borrowed
  CURL *easy;                       // owned; NULL once closed
  bool added;                       // to the multi handle
  struct curl_slist *headers;       // owned
  struct curl_slist *addresses;     // owned; what curl is told of the host
  HttpRoute route;                  // owned
  NameAsk ask;                      // while the host's addresses are looked up
  int attempt;                      // which of them are tried
  bool has_more;                    // there are others
  uv_timer_t *timer;                // owned until closed
  ByteBuffer head;                  // the header lines of the answer, without the status line
  ByteBuffer body;                  // what has arrived of the body and was not taken
  long status;                      // of the answer; 0 before it
  bool head_done;                   // status and headers are complete
  bool ended;                       // successfully if `code` is NULL
  bool enough;                      // the receiver has all it wants
  bool is_special;                  // its easy handle is no other transfer's
  const char *code;                 // static; of the failure
  char error[CURL_ERROR_SIZE];      // its text
  char curl_error[CURL_ERROR_SIZE]; // curl writes here whenever it likes
  size_t received;
  size_t max_body_bytes;
  uint64_t idle_ms, last_at_ms; // loop time of the last byte
  long timeout_ms;
  uint64_t total_at_ms; // loop time of the deadline; 0: none
  uint64_t started_at_ms;
  uint64_t name_ms; // what the host's addresses may take, before old ones do
  uint64_t connect_ms;
  uint64_t waited_ms;               // for the addresses
  curl_off_t uploaded, upload_size; // of the body
} Transfer;

// Starts a transfer. False, with a code and a text in t->code and t->error, when it cannot; then
// nothing is held. `t` must stay where it is until transfer_close().
bool transfer_start(Transfer *t, HttpMulti *m, const TransferOptions *options);

// Call after a turn of curl for the transfer whose handle it reports as done. It may begin anew,
// with another address of the host.
void transfer_end(Transfer *t, CURLcode result);

// The receiver wants no more of the body: the transfer has one more second to end by itself, so
// that its connection can be used again, and then ends successfully whatever happened.
void transfer_enough(Transfer *t);

// Milliseconds from the start to a usable connection (0: an open one was used), and in all.
void transfer_times(const Transfer *t, double *connect_ms, double *total_ms);

// Stops it, in whatever state it is, and frees everything but the buffers. May be called twice.
void transfer_close(Transfer *t);

void transfer_free_buffers(Transfer *t);

#endif
