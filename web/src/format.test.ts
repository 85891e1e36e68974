import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, duration, localTime, milliseconds, modelTitle, number, percent, plural, rate, shellQuote, spread, utcTime, words } from "./format";

const plain = (text: string) => text.replaceAll("\u00a0", " ");

test("numbers keep their significant digits and never become exponents in the usual range", () => {
  assert.equal(number(0), "0");
  assert.equal(number(1.23456), "1.23");
  assert.equal(number(0.012345), "0.0123");
  assert.equal(number(123456.7), "123,457");
  assert.equal(number(0.00001234), "1.23e-5");
  assert.equal(number(-12.345, 4), "-12.35");
  assert.equal(number(NaN), "NaN");
});

test("throughput has four digits below a thousand and whole images above", () => {
  assert.equal(rate(4812.4), "4,812");
  assert.equal(rate(12.3456), "12.35");
  assert.equal(rate(0.5), "0.5000");
});

test("a spread is a percentage of its mean", () => {
  assert.equal(plain(spread(0.006)), "±0.6 %");
  assert.equal(plain(spread(0.123)), "±12 %");
  assert.equal(plain(spread(0.00042)), "±0.04 %");
  assert.equal(plain(spread(0)), "±0 %");
  assert.equal(plain(percent(0.9012)), "90.1 %");
});

test("durations carry two units at most", () => {
  const cases: [number, string][] = [
    [-1, "0.0 s"],
    [0.84, "0.8 s"],
    [9.96, "10 s"],
    [59.6, "1 min 00 s"],
    [185, "3 min 05 s"],
    [7620, "2 h 07 min"],
    [3 * 86400 + 4 * 3600 + 60, "3 d 4 h"],
  ];
  for (const [seconds, text] of cases) assert.equal(plain(duration(seconds)), text);
  assert.equal(plain(milliseconds(246.2)), "246 ms");
  assert.equal(plain(milliseconds(12_345)), "12.3 s");
});

test("bytes are binary units", () => {
  assert.equal(plain(bytes(512)), "512 B");
  assert.equal(plain(bytes(26214400)), "25.0 MiB");
  assert.equal(plain(bytes(16 * 2 ** 30)), "16.0 GiB");
});

test("times are in the viewer's zone, without the date when it is today's, with UTC beside", () => {
  const at = "2026-11-21T02:05:06.789Z";
  assert.equal(localTime(at, new Date("2026-11-21T10:00:00Z"), "UTC"), "02:05:06");
  assert.equal(localTime(at, new Date("2026-11-22T10:00:00Z"), "UTC"), "2026-11-21 02:05:06");
  assert.equal(localTime(at, new Date("2026-11-21T10:00:00Z"), "America/New_York"), "2026-11-20 21:05:06");
  assert.equal(localTime("2026-11-21T00:00:01Z", new Date("2026-11-21T10:00:00Z"), "UTC"), "00:00:01");
  assert.equal(utcTime(at), "2026-11-21 02:05:06.789 UTC");
  assert.equal(localTime("no time"), "no time");
});

test("names become words, models their titles", () => {
  assert.equal(words("out_of_memory"), "out of memory");
  assert.equal(modelTitle("resnet50"), "ResNet-50");
  assert.equal(modelTitle("catsdogs_deep"), "catsdogs deep");
  assert.equal(plain(plural(1, "job")), "1 job");
  assert.equal(plain(plural(1200, "job")), "1,200 jobs");
});

test("shell quoting survives quotes, spaces and dollars", () => {
  assert.equal(shellQuote("a-b_c=1"), "a-b_c=1");
  assert.equal(shellQuote('{"a":"b c"}'), `'{"a":"b c"}'`);
  assert.equal(shellQuote("it's $HOME"), `'it'\\''s $HOME'`);
});
