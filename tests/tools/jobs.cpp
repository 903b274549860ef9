// SPDX-License-Identifier: Apache-2.0
#include "tests/tools/jobs.h"

#include <catch2/catch.hpp>

namespace tenon::test {

Words errors_of(const Result& result) {
  Words errors;
  for (const std::string& line : lines(result.err)) {
    if (line.find("tenon: error:") != std::string::npos) errors.push_back(line);
  }
  return errors;
}

void check_job_refused(const Lab& lab, const Words& words, int code, const Words& parts) {
  const Listing before = list(lab.path());
  const Result result = run(words, {}, 30);
  INFO(result.err);
  CHECK(result.code == code);
  CHECK(result.out.empty());
  const Words errors = errors_of(result);
  REQUIRE(errors.size() == 1);
  CHECK(errors[0].starts_with("tenon: error: "));
  for (const std::string& part : parts) CHECK_THAT(errors[0], Catch::Contains(part));
  CHECK(list(lab.path()) == before);
}

Words differing(const Lab& lab, const Words& words, const std::string& flag,
                const std::string& value) {
  lab.put("wrapper.sh", "[ \"$OMPI_COMM_WORLD_RANK\" = 1 ] && exec \"$@\" '" + flag + "' '" +
                            value + "'\nexec \"$@\"\n");
  Words common;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == flag) {
      lab.put("wrapper.sh", "if [ \"$OMPI_COMM_WORLD_RANK\" = 1 ]; then exec \"$@\" '" + flag +
                                "' '" + value + "'; fi\nexec \"$@\" '" + flag + "' '" +
                                words[i + 1] + "'\n");
      ++i;
    } else {
      common.push_back(words[i]);
    }
  }
  Words job = {"/bin/bash", lab.at("wrapper.sh")};
  const Words program = tenon_words(common);
  job.insert(job.end(), program.begin(), program.end());
  return mpirun_words(2, job);
}

std::vector<pid_t> ranks_of(const Process& job) {
  REQUIRE(eventually([&] {
    const std::string said = job.err();
    const size_t header = said.find("step  epoch");
    return header != std::string::npos && lines(said.substr(header)).size() > 20;
  }));
  return job.children();
}

Words long_run(const Lab& lab, const std::string& out, const Words& more) {
  Words all = {"--out", lab.at(out), "--steps", "400", "--save-every", "40", "--resume", "auto"};
  all.insert(all.end(), more.begin(), more.end());
  return lab.finetune(all);
}

}  // namespace tenon::test
