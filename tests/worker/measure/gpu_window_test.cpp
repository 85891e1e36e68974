#include "worker/measure/gpu_window.hpp"

#include <gtest/gtest.h>

namespace rackmark::worker {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kIdle = 1, kPowerCap = 4, kThermal = 64;  // of nvml.h

gpu::Reading reading(double energy_j, double clock_mhz, std::uint64_t reasons = 0) {
  gpu::Reading r;
  r.busy_fraction = 0.9;
  r.memory_bytes = 5e9;
  r.power_w = 100;
  r.energy_j = energy_j;
  r.temperature_c = 60;
  r.sm_clock_mhz = clock_mhz;
  r.throttle_bits = reasons;
  r.ecc_corrected = 7;
  r.ecc_uncorrected = 2;
  return r;
}

TEST(GpuWindow, CountersAreDifferencesAndMeansAreOfTheWindow) {
  GpuWindow window;
  gpu::Reading before = reading(900, 500, kIdle);
  before.memory_bytes = 6e9;
  window.add(before);
  EXPECT_FALSE(window.use());
  window.begin(reading(1000, 2000), 5 * kSecond);
  for (int i = 0; i < 7; ++i) window.add(reading(1100, 2000, kPowerCap));
  gpu::Reading last = reading(2400, 1700, kThermal);
  last.temperature_c = 91;
  last.ecc_corrected = 8;
  last.ecc_uncorrected = 3;
  window.end(last, 9 * kSecond);
  window.add(before);  // after the window

  const auto use = window.use();
  ASSERT_TRUE(use);
  EXPECT_EQ(use->readings, 9);
  EXPECT_EQ(use->energy_j, 1400);
  EXPECT_DOUBLE_EQ(use->power_w.value(), 350) << "the counter's, not the mean of the readings";
  EXPECT_NEAR(use->busy_fraction.value(), 0.9, 1e-12);
  EXPECT_EQ(use->peak_memory_bytes, 6e9) << "of the whole run";
  EXPECT_EQ(use->max_temperature_c, 91);
  EXPECT_NEAR(use->sm_clock_mhz.value(), (8 * 2000 + 1700) / 9.0, 1e-9);
  EXPECT_EQ(use->sm_clock_change, 0) << "one dip is not a fall";
  ASSERT_TRUE(use->throttled);
  EXPECT_NEAR(use->throttled->at("hw_thermal_slowdown"), 1 / 9.0, 1e-12);
  EXPECT_NEAR(use->throttled->at("sw_power_cap"), 7 / 9.0, 1e-12);
  EXPECT_FALSE(use->throttled->contains("gpu_idle"));
  EXPECT_EQ(use->ecc_corrected, 1);
  EXPECT_EQ(use->ecc_uncorrected, 1);
}

TEST(GpuWindow, AClockThatFellIsSeenWheneverItFell) {
  for (const int fell_at : {4, 8, 11}) {
    GpuWindow window;
    window.begin(reading(0, 2000), 0);
    for (int i = 1; i < 20; ++i) window.add(reading(i, i < fell_at ? 2000 : 1600));
    window.end(reading(20, 1600), 5 * kSecond);
    EXPECT_NEAR(window.use()->sm_clock_change.value(), -0.2, 1e-12) << fell_at;
  }
}

TEST(GpuWindow, ALongWindowsClocksAreKeptAsMeansOfNeighbours) {
  for (const int readings : {4095, 4096, 4097, 100'000}) {
    ClockTrace trace;
    for (int i = 0; i < readings; ++i) trace.add(5 * i < 2 * readings ? 2000 : 1500);
    EXPECT_NEAR(trace.change().value(), -0.25, 1e-12) << readings;
  }
}

TEST(GpuWindow, WhatACardDoesNotSayIsNull) {
  GpuWindow window;
  gpu::Reading poor;
  poor.power_w = 50;
  window.begin(poor, 0);
  poor.power_w = 70;
  window.end(poor, kSecond);
  const auto use = window.use();
  ASSERT_TRUE(use);
  EXPECT_EQ(use->power_w, 60) << "without a counter the mean of the readings";
  EXPECT_FALSE(use->energy_j || use->busy_fraction || use->peak_memory_bytes ||
               use->max_temperature_c || use->sm_clock_mhz || use->sm_clock_change ||
               use->memory_clock_mhz || use->throttled || use->ecc_corrected ||
               use->ecc_uncorrected);

  GpuWindow broken;  // counters that stand still, or go back with a new driver
  broken.begin(reading(10, 2000), 0);
  gpu::Reading reset = reading(10, 2000);
  reset.ecc_uncorrected = 0;
  broken.end(reset, kSecond);
  EXPECT_FALSE(broken.use()->energy_j);
  EXPECT_EQ(broken.use()->power_w, 100);
  EXPECT_FALSE(broken.use()->ecc_uncorrected);
}

}  // namespace
}  // namespace rackmark::worker
