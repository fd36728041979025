// Hand-offs over a real socket pair with real descriptors: the honest one, and liars of every kind.
#include "machine/linux/attach.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <cstring>

#include "machine/linux/test_guest.h"

namespace ballast::linux_machine {
namespace {

using testing::HasSubstr;

class AttachTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string why_not;
    guest_ = TestGuest::make({8, 16}, why_not);
    if (!guest_) GTEST_SKIP() << why_not;
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    agent_.reset(pair[0]);
    link_ = std::make_unique<AgentLink>(UniqueFd(pair[1]));
    text_ = guest_->hand_off_text();
    descriptors_ = guest_->hand_off_descriptors();
  }
  void send(const std::string& text, const std::vector<int>& descriptors) {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(64 * sizeof(int))> control{};
    iovec vector{const_cast<char*>(text.data()), text.size()};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
      const size_t bytes = descriptors.size() * sizeof(int);
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(bytes);
      cmsghdr* first = CMSG_FIRSTHDR(&message);
      first->cmsg_level = SOL_SOCKET;
      first->cmsg_type = SCM_RIGHTS;
      first->cmsg_len = CMSG_LEN(bytes);
      std::memcpy(CMSG_DATA(first), descriptors.data(), bytes);
    }
    ASSERT_EQ(::sendmsg(agent_.get(), &message, 0), static_cast<ssize_t>(text.size()));
  }
  Result<Attachment> send_and_attach() {
    send(text_, descriptors_);
    auto received = link_->receive();
    if (!received) return received.error();
    if (!received->hand_off_arrived) return Error{"no hand-off"};
    BALLAST_TRY(const VmProcess process, VmProcess::of_peer(link_->fd()));
    return attach(std::move(received->hand_off), process);
  }
  std::string refusal() {
    auto result = send_and_attach();
    return result ? "accepted" : result.error().message;
  }
  void replace(const std::string& from, const std::string& to) {
    const size_t at = text_.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text_.replace(at, from.size(), to);
  }
  static std::string number(const void* address) {
    return std::to_string(reinterpret_cast<uint64_t>(address));
  }

  std::unique_ptr<TestGuest> guest_;
  UniqueFd agent_;
  std::unique_ptr<AgentLink> link_;
  std::string text_;
  std::vector<int> descriptors_;
};

TEST_F(AttachTest, HonestHandOffBecomesMemory) {
  auto attachment = send_and_attach();
  ASSERT_TRUE(attachment) << attachment.error().message;
  EXPECT_EQ(attachment->hand_off.spec.name, "test");
  EXPECT_TRUE(attachment->hand_off.is_complete());
  auto memory = UffdMemory::create(attachment->memory_parts(
      ::getpid(), [&](std::span<const AgentRange> r) { return link_->send_sample(r); }));
  ASSERT_TRUE(memory) << memory.error().message;
  EXPECT_EQ((*memory)->page_count(), 24u);
  EXPECT_TRUE((*memory)->can_sample());
  EXPECT_EQ((*memory)->install_zero({PageIndex(0), 24}).installed, 24u);
  EXPECT_EQ(*guest_->page(20), std::byte{0});
  // The RAM file and the bitmap cannot be truncated any more.
  EXPECT_NE(::ftruncate(guest_->pieces()[0].file.get(), 0), 0);
  EXPECT_NE(::ftruncate(guest_->discards(), 0), 0);
}

TEST_F(AttachTest, HandOffBehindDiscardNotices) {
  const AgentMessage notice{kAgentMagic, kAgentDiscards, 0, 0};
  const std::string bytes(reinterpret_cast<const char*>(&notice), sizeof(notice));
  send(bytes + bytes, {});
  send(text_, descriptors_);
  bool discards = false;
  bool hand_off = false;
  for (int i = 0; i < 2 && !hand_off; ++i) {
    auto received = link_->receive();
    ASSERT_TRUE(received) << received.error().message;
    discards |= received->discards;
    hand_off |= received->hand_off_arrived;
    if (!hand_off) continue;
    EXPECT_EQ(received->hand_off.text, text_);
    EXPECT_EQ(received->hand_off.descriptors.size(), descriptors_.size());
  }
  EXPECT_TRUE(discards);
  EXPECT_TRUE(hand_off);
}

TEST_F(AttachTest, WrongDescriptorTypes) {
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  UniqueFd disk(::open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  const auto with = [&](size_t index, int fd) {
    descriptors_ = guest_->hand_off_descriptors();
    descriptors_[index] = fd;
    return refusal();
  };
  EXPECT_THAT(with(0, null.get()), HasSubstr("descriptor 0 is no userfaultfd"));
  EXPECT_THAT(with(0, guest_->discards()), HasSubstr("descriptor 0 is no userfaultfd"));
  EXPECT_THAT(with(1, null.get()), HasSubstr("RAM file 1 is neither a memfd nor on tmpfs"));
  EXPECT_THAT(with(2, disk.get()), HasSubstr("RAM file 2 is neither a memfd nor on tmpfs"));
  EXPECT_THAT(with(2, guest_->uffd()), HasSubstr("RAM file 2 is neither a memfd nor on tmpfs"));
  EXPECT_THAT(with(3, disk.get()), HasSubstr("discard bitmap is neither a memfd"));
  EXPECT_THAT(with(2, guest_->pieces()[0].file.get()),
              HasSubstr("has 32768 bytes and a region ends at 65536"));
  EXPECT_THAT(with(1, guest_->pieces()[1].file.get()), HasSubstr("handed over twice"));
  EXPECT_THAT(with(3, guest_->pieces()[1].file.get()),
              HasSubstr("the discard bitmap is a RAM file"));
}

TEST_F(AttachTest, ReadOnlyRamFile) {
  UniqueFd read_only(
      ::open(("/proc/self/fd/" + std::to_string(descriptors_[1])).c_str(), O_RDONLY | O_CLOEXEC));
  descriptors_[1] = read_only.get();
  EXPECT_THAT(refusal(), HasSubstr("RAM file 1 is not read-write"));
}

TEST_F(AttachTest, BitmapThatCanBeTruncated) {
  UniqueFd unsealable(::memfd_create("bits", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(unsealable.get(), 2 * kDiscardHeaderBytes), 0);
  descriptors_[3] = unsealable.get();
  EXPECT_THAT(refusal(), HasSubstr("must be a memfd that can be sealed"));
  UniqueFd small(::memfd_create("bits", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(small.get(), kDiscardHeaderBytes), 0);
  descriptors_[3] = small.get();
  EXPECT_THAT(refusal(), HasSubstr("needs 4104"));
}

TEST_F(AttachTest, UffdWithoutTheFeatures) {
  UniqueFd plain(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_MISSING_SHMEM;
  ASSERT_EQ(::ioctl(plain.get(), UFFDIO_API, &api), 0);
  descriptors_[0] = plain.get();
  EXPECT_THAT(refusal(), HasSubstr("the userfaultfd has features"));
}

TEST_F(AttachTest, LiesAboutAddresses) {
  const std::string first = number(guest_->pieces()[0].address);
  const std::string second = number(guest_->pieces()[1].address);
  static std::array<std::byte, 16 * kPageBytes> own;
  const auto lie = [&](const std::string& from, const std::string& to) {
    text_ = guest_->hand_off_text();
    replace(from, to);
    return refusal();
  };
  const auto stray = reinterpret_cast<uint64_t>(own.data()) / kPageBytes * kPageBytes;
  EXPECT_THAT(lie(first, "4096"), HasSubstr("does not map RAM file 1"));
  EXPECT_THAT(lie(first, std::to_string(stray)), HasSubstr("does not map RAM file 1"));
  EXPECT_THAT(
      lie(second, number(guest_->page(9))),
      testing::AnyOf(HasSubstr("RAM file 2"), HasSubstr("overlap")));  // as the kernel placed them
  // Right mapping, wrong file.
  std::swap(descriptors_[1], descriptors_[2]);
  text_ = guest_->hand_off_text();
  EXPECT_NE(refusal(), "accepted");
}

TEST_F(AttachTest, LiesAboutOffsetsAndSizes) {
  // The file is large enough for the lie; the mapping is not there.
  ASSERT_EQ(::ftruncate(descriptors_[1], 64 * kPageBytes), 0);
  replace("\"offset\":0", "\"offset\":4096");
  EXPECT_THAT(refusal(), HasSubstr("does not map RAM file 1"));
  text_ = guest_->hand_off_text();
  replace("\"size\":32768", "\"size\":36864");
  replace("\"memory_bytes\":98304", "\"memory_bytes\":102400");
  EXPECT_THAT(refusal(), testing::AnyOf(HasSubstr("does not map"), HasSubstr("overlap")));
  text_ = guest_->hand_off_text();
  replace("\"size\":32768", "\"size\":1048576");
  replace("\"memory_bytes\":98304", "\"memory_bytes\":1114112");
  EXPECT_NE(refusal(), "accepted");
}

TEST_F(AttachTest, PrivateMappingIsRefused) {
  void* address = ::mmap(guest_->page(0), 8 * kPageBytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_FIXED, descriptors_[1], 0);
  ASSERT_NE(address, MAP_FAILED);
  EXPECT_THAT(refusal(), HasSubstr("does not map RAM file 1 shared"));
}

TEST_F(AttachTest, PagesThatAreAwayArePrivateMappingsOfThePool) {
  const UniqueFd kept(::memfd_create("kept", MFD_CLOEXEC));
  const UniqueFd pool(::memfd_create("pool", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(pool.get(), 8 * kPageBytes), 0);
  const auto map_over = [&](uint32_t page, int type, int fd) {
    EXPECT_NE(
        ::mmap(guest_->page(page), 2 * kPageBytes, PROT_READ | PROT_WRITE, type | MAP_FIXED, fd, 0),
        MAP_FAILED);
  };
  map_over(3, MAP_PRIVATE, pool.get());
  EXPECT_THAT(refusal(), HasSubstr("does not map RAM file 1 shared")) << "no pool was kept";
  replace("\"kept\":[]", R"("kept":["tables","arena","swap","pool"])");
  for (const int fd : {kept.get(), kept.get(), kept.get(), pool.get()}) descriptors_.push_back(fd);
  auto attachment = send_and_attach();
  ASSERT_TRUE(attachment) << attachment.error().message;
  struct stat theirs {};
  struct stat ours {};
  ASSERT_EQ(::fstat(attachment->pool.get(), &theirs), 0);
  ASSERT_EQ(::fstat(pool.get(), &ours), 0);
  EXPECT_EQ(theirs.st_ino, ours.st_ino);
  map_over(3, MAP_PRIVATE, kept.get());
  EXPECT_THAT(refusal(), HasSubstr("does not map RAM file 1 shared")) << "another file";
  map_over(3, MAP_SHARED, pool.get());
  EXPECT_THAT(refusal(), HasSubstr("does not map RAM file 1 shared"))
      << "the guest writes the pool";
  map_over(3, MAP_PRIVATE, descriptors_[1]);
  descriptors_.back() = descriptors_[1];
  EXPECT_THAT(refusal(), HasSubstr("the share pool is a RAM file"));
}

TEST_F(AttachTest, AnotherProcessIsNotTheOneThatMaps) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::munmap(guest_->page(0), 8 * kPageBytes);
    ::pause();
    ::_exit(0);
  }
  ::usleep(20000);
  send(text_, descriptors_);
  auto received = link_->receive();
  ASSERT_TRUE(received);
  auto process = VmProcess::of_pid(child);
  ASSERT_TRUE(process);
  const auto result = attach(std::move(received->hand_off), *process);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("does not map"));
  EXPECT_TRUE(process->is_alive());
  process->freeze();
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  EXPECT_TRUE(WIFSTOPPED(status));
  process->thaw();
  ::kill(child, SIGKILL);
  pollfd watch{process->fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&watch, 1, 5000), 1) << "the pidfd tells of the end";
  EXPECT_FALSE(process->is_alive());
  ASSERT_EQ(::waitpid(child, &status, 0), child);
}

TEST_F(AttachTest, AdjacentMappingsCountAsOne) {
  // The VM's own madvise splits the mapping; it is still the same file at the same addresses.
  ASSERT_EQ(::madvise(guest_->page(2), 2 * kPageBytes, MADV_DONTDUMP), 0);
  EXPECT_EQ(refusal(), "accepted");
}

TEST_F(AttachTest, GarbageOnTheSocket) {
  send("hello world, this is no message", {});
  auto received = link_->receive();
  ASSERT_FALSE(received);
  EXPECT_THAT(received.error().message, HasSubstr("that are no message"));
}

TEST_F(AttachTest, UnknownMessageKind) {
  const AgentMessage odd{kAgentMagic, 77, 0, 0};
  send(std::string(reinterpret_cast<const char*>(&odd), sizeof(odd)), {});
  auto received = link_->receive();
  ASSERT_FALSE(received);
  EXPECT_THAT(received.error().message, HasSubstr("unknown kind 77"));
}

TEST_F(AttachTest, TooManyDescriptors) {
  send("[]", std::vector<int>(40, descriptors_[1]));
  auto received = link_->receive();
  ASSERT_FALSE(received);
  EXPECT_THAT(received.error().message, HasSubstr("more than 24 descriptors"));
}

TEST_F(AttachTest, OversizedText) {
  text_.append(20000, ' ');
  EXPECT_THAT(refusal(), HasSubstr("longer than 16384 bytes"));
}

TEST_F(AttachTest, EndOfConnection) {
  EXPECT_FALSE(link_->receive()->closed);
  agent_.reset();
  EXPECT_TRUE(link_->receive()->closed);
}

TEST_F(AttachTest, Verdicts) {
  ASSERT_TRUE(link_->send_refuse("no room").has_value());
  std::array<char, 64> buffer{};
  ASSERT_EQ(::read(agent_.get(), buffer.data(), buffer.size()),
            static_cast<ssize_t>(sizeof(AgentMessage) + 7));
  AgentMessage message{};
  std::memcpy(&message, buffer.data(), sizeof(message));
  EXPECT_EQ(message.magic, static_cast<uint32_t>(kAgentMagic));
  EXPECT_EQ(message.kind, static_cast<uint32_t>(kAgentRefuse));
  EXPECT_EQ(message.bytes, 7u);
  EXPECT_EQ(std::string(buffer.data() + sizeof(message)), "no room");
  const std::array<int, 2> kept{descriptors_[1], descriptors_[2]};
  ASSERT_TRUE(link_->send_accept(kept).has_value());
  alignas(cmsghdr) std::array<char, 256> control{};
  iovec vector{&message, sizeof(message)};
  msghdr header{};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ASSERT_EQ(::recvmsg(agent_.get(), &header, 0), static_cast<ssize_t>(sizeof(message)));
  EXPECT_EQ(message.kind, static_cast<uint32_t>(kAgentAccept));
  EXPECT_EQ(message.count, 2u);
  ASSERT_NE(CMSG_FIRSTHDR(&header), nullptr);
  EXPECT_EQ(CMSG_FIRSTHDR(&header)->cmsg_len, CMSG_LEN(2 * sizeof(int)));
}

TEST_F(AttachTest, SamplingRequestsStayWholeWhenTheAgentIsSlow) {
  const std::vector<AgentRange> ranges(kAgentSampleRangesMax, AgentRange{4096, 8192});
  size_t sent = 0;
  while (link_->send_sample(ranges) && sent < 1000) ++sent;
  ASSERT_LT(sent, 1000u) << "the socket never filled up";
  std::string stream;
  std::array<char, 65536> buffer;
  for (;;) {
    const ssize_t got = ::recv(agent_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got > 0) {
      stream.append(buffer.data(), static_cast<size_t>(got));
    } else if (link_->send_sample({})) {
      if (::recv(agent_.get(), buffer.data(), 1, MSG_PEEK | MSG_DONTWAIT) <= 0) break;
    }
  }
  const size_t whole = sizeof(AgentMessage) + kAgentSampleRangesMax * sizeof(AgentRange);
  EXPECT_EQ(stream.size(), sent * whole);
}

TEST_F(AttachTest, ResultsOfRemapping) {
  const auto send_results = [&](uint32_t count, std::vector<uint32_t> errors) {
    const AgentMessage message{kAgentMagic, kAgentRemapped, count,
                               static_cast<uint32_t>(errors.size() * sizeof(uint32_t))};
    std::string bytes(reinterpret_cast<const char*>(&message), sizeof(message));
    bytes.append(reinterpret_cast<const char*>(errors.data()), message.bytes);
    // In two parts: a stream may bring it so.
    send(bytes.substr(0, 18), {});
    auto part = link_->receive();
    if (!part) return part.error().message;
    EXPECT_TRUE(part->remapped.empty());
    send(bytes.substr(18), {});
    auto received = link_->receive();
    if (!received) return received.error().message;
    EXPECT_EQ(received->remapped, errors);
    return std::string("good");
  };
  const AgentRange range{4096, 4096};
  const std::array<AgentShareRange, 2> shares{{{4096, 4096, 0}, {8192, 4096, 4096}}};
  ASSERT_TRUE(link_->send_share(shares));
  ASSERT_TRUE(link_->send_home(std::span(&range, 1)));
  EXPECT_EQ(send_results(2, {0, ECANCELED}), "good");
  EXPECT_EQ(send_results(1, {0}), "good");
  EXPECT_THAT(send_results(1, {0}), HasSubstr("sent 1 results (4 bytes) where 0 are awaited"));
}

TEST_F(AttachTest, ResultsThatWereNotAskedFor) {
  const AgentRange range{4096, 4096};
  ASSERT_TRUE(link_->send_home(std::span(&range, 1)));
  const AgentMessage more{kAgentMagic, kAgentRemapped, 2, 8};
  send(std::string(reinterpret_cast<const char*>(&more), sizeof(more)), {});
  auto received = link_->receive();
  ASSERT_FALSE(received);
  EXPECT_THAT(received.error().message, HasSubstr("2 results (8 bytes) where 1 are awaited"));
}

TEST_F(AttachTest, ContinuationMayOnlyAdd) {
  const auto both = parse_hand_off(text_, 4).value();
  HandOff one = both;
  one.regions.pop_back();
  EXPECT_EQ(check_continuation(one, both).value(), 1u);
  EXPECT_FALSE(check_continuation(both, one).has_value());
  HandOff moved = both;
  moved.regions[0].address += kPageBytes;
  EXPECT_FALSE(check_continuation(one, moved).has_value());
  HandOff renamed = both;
  renamed.spec.name = "other";
  EXPECT_FALSE(check_continuation(one, renamed).has_value());
}

}  // namespace
}  // namespace ballast::linux_machine
