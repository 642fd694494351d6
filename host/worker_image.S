// The sandbox's worker program, carried in the host's binary.
  .section .rodata
  .global worker_image, worker_image_end
  .balign 16
worker_image:
  .incbin WORKER
worker_image_end:
  .byte 0
  .section .note.GNU-stack, "", @progbits
