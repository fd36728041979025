#include "top/keys.h"

#include <gtest/gtest.h>

namespace ballast::top {
namespace {

using Keys = std::vector<int>;

TEST(Keys, LettersAreThemselves) {
  KeyDecoder decoder;
  EXPECT_EQ(decoder.feed("qW? \r\n"), (Keys{'q', 'W', '?', ' ', kEnter, kEnter}));
  EXPECT_FALSE(decoder.pending());
}

TEST(Keys, ArrowsInBothModesOfATerminal) {
  KeyDecoder decoder;
  EXPECT_EQ(decoder.feed("\x1b[A\x1bOB\x1b[C\x1b[D"), (Keys{kUp, kDown, kRight, kLeft}));
  EXPECT_EQ(decoder.feed("\x1b[5~\x1b[6~\x1b[H\x1bOF\x1b[1~"),
            (Keys{kPageUp, kPageDown, kHome, kEnd, kHome}));
}

TEST(Keys, ASequenceMayComeInPieces) {
  KeyDecoder decoder;
  EXPECT_EQ(decoder.feed("\x1b"), Keys{});
  EXPECT_TRUE(decoder.pending());
  EXPECT_EQ(decoder.feed("["), Keys{});
  EXPECT_EQ(decoder.feed("5"), Keys{});
  EXPECT_EQ(decoder.feed("~x"), (Keys{kPageUp, 'x'}));
}

TEST(Keys, EscapeAloneIsAKeyAfterAWhile) {
  KeyDecoder decoder;
  EXPECT_EQ(decoder.feed("\x1b"), Keys{});
  EXPECT_EQ(decoder.flush(), (Keys{kEscape}));
  EXPECT_EQ(decoder.flush(), Keys{});
  EXPECT_EQ(decoder.feed("\x1bq"), (Keys{kEscape, 'q'}));
}

TEST(Keys, WhatMeansNothingIsNoOtherKey) {
  KeyDecoder decoder;
  EXPECT_EQ(decoder.feed("\x1b[15;5~"), (Keys{kUnknown}));
  EXPECT_EQ(decoder.feed("\xc3\xa9"), (Keys{kUnknown, kUnknown}));
  EXPECT_EQ(decoder.feed("\x1b[" + std::string(100, '1')).front(), kUnknown);
}

}  // namespace
}  // namespace ballast::top
