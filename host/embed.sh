#!/bin/sh
# Writes C that carries the given files: embed.sh FILE... > embedded.c
set -eu
echo '#include "embedded.h"'
n=0
for f in "$@"; do
  printf '__asm__(".section .rodata\\nembedded_%d_start:\\n.incbin \\"%s\\"\\nembedded_%d_end:\\n.byte 0\\n.previous");\n' $n "$f" $n
  printf 'extern const char embedded_%d_start[], embedded_%d_end[];\n' $n $n
  n=$((n + 1))
done
echo 'const Embedded embedded[] = {'
n=0
for f in "$@"; do
  printf '  {"%s", embedded_%d_start, embedded_%d_end},\n' "$f" $n $n
  n=$((n + 1))
done
echo '  {0, 0, 0},'
echo '};'
