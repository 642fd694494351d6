// number_text.h: the shortest text of 15 to 17 digits that reads as the same number.
//
// What printf's %g and strtod() find out by trying is found here by exact arithmetic in 128 bits,
// for the sizes that figures have; other numbers are tried. Both give the same text.

#ifndef BEAMLENS_NUMBER_TEXT_H
#define BEAMLENS_NUMBER_TEXT_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define NUMBER_TEXT_SIZE 40

__extension__ typedef unsigned __int128 NumberWide;

static inline uint64_t number_power_of_10(int exponent)
{
  uint64_t power = 1;
  while (exponent-- > 0) {
    power *= 10;
  }
  return power;
}

// Writes the whole number `digits`, with a point before the last `decimals` of them and without the
// zeros at its end.
static inline void number_put(char *text, bool is_negative, uint64_t digits, int decimals)
{
  while (decimals > 0 && digits % 10 == 0) {
    digits /= 10;
    decimals--;
  }
  char backwards[NUMBER_TEXT_SIZE];
  int len = 0;
  for (int place = 0; digits > 0 || place <= decimals; place++) {
    if (place == decimals && place > 0) {
      backwards[len++] = '.';
    }
    backwards[len++] = (char)('0' + digits % 10);
    digits /= 10;
  }
  if (is_negative) {
    *text++ = '-';
  }
  while (len > 0) {
    *text++ = backwards[--len];
  }
  *text = '\0';
}

static inline void number_try(char *text, double n)
{
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, NUMBER_TEXT_SIZE, "%.*g", digits, n);
    if (strtod(text, NULL) == n) {
      return;
    }
  }
}

// A fraction from 0.0001 to below 10^15. False: it has to be tried.
static inline bool number_put_fraction(char *text, double n)
{
  int exponent;
  uint64_t mantissa = (uint64_t)ldexp(frexp(fabs(n), &exponent), 53);
  int shift = 53 - exponent; // |n| is mantissa / 2^shift
  if (mantissa == (uint64_t)1 << 52 || shift < 1 || shift > 66) {
    return false; // the next number below is nearer than the one above
  }
  int whole = -3; // digits before the point; below 1 without the zeros after it
  for (double power = 0.001; power <= fabs(n); power *= 10) {
    whole++;
  }
  for (int digits = 15; digits <= 17; digits++) {
    // |n| * 10^decimals, exactly, is rounded as printf does: half to even.
    int decimals = digits - whole;
    NumberWide power =
        (NumberWide)number_power_of_10(decimals / 2) * number_power_of_10(decimals - decimals / 2);
    NumberWide exact = mantissa * power;
    NumberWide one = (NumberWide)1 << shift;
    NumberWide rest = exact & (one - 1);
    uint64_t rounded = (uint64_t)(exact >> shift);
    if (rest > one / 2 || (rest == one / 2 && rounded % 2 == 1)) {
      rounded++;
      rest = one - rest;
    }
    // It reads as n when it is nearer than half the way to the next number.
    if (digits == 17 || 2 * rest < power || (2 * rest == power && mantissa % 2 == 0)) {
      number_put(text, n < 0, rounded, decimals);
      return true;
    }
  }
  return false;
}

// Writes a finite number; `text` has room for NUMBER_TEXT_SIZE bytes. Whole numbers below 2^53 are
// written with all their digits.
static inline void number_text(char *text, double n)
{
  if (fabs(n) < 9007199254740992.0 && n == floor(n)) {
    number_put(text, n < 0, (uint64_t)fabs(n), 0);
  } else if (!(fabs(n) >= 0.0001 && fabs(n) < 1e15) || !number_put_fraction(text, n)) {
    number_try(text, n);
  }
}

#endif
