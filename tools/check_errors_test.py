"""python3 -m unittest tools/check_errors_test.py"""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import check_errors  # noqa: E402


def findings(body, path="x_transformers/nn/a.cpp"):
    source = "void f() {\n  try {\n    g();\n  } catch (const InputError& error) {\n    " + body + "\n  }\n}\n"
    return check_errors.check(path, source)


class CheckErrors(unittest.TestCase):
    def test_refuses_what_is_no_data(self):
        for body in ('std::string m = error.what(); m.erase(0, 4);',
                     'const auto m = std::string(error.what()); if (m.starts_with("net.")) throw;',
                     'return std::string_view(error.what())[0];',
                     'throw InputError(path + ": " + error.what());',
                     'throw InputError(fmt::format("{} {}", path.substr(0, 3), error.what()));',
                     'throw RunError(std::string("step ") + error.what_without_backtrace());',
                     'throw InputError(fmt::format("{} cannot open: {}", path, std::strerror(errno)));',
                     'throw InputError(path + status.message());',
                     'return report(error.what(), 2);',
                     'message = error.what();',
                     'return error.notice().line().find("kv_heads");',
                     'throw InputError(error.notice().line());',
                     'throw InputError(path + ": " + error.notice().line());',
                     'const std::string m = error.notice().line();',
                     'auto text = "step: " + error.notice().line();',
                     'if (error.notice().line() == other) throw;',
                     'messages.emplace_back(error.notice().line());',
                     'throw InputError(path + ": " + cause_of(error));',
                     'throw InputError(fmt::format("{} {}", path, cause_of_errno(errno)));',
                     'const auto words = cause_of(error);',
                     'if (problem == "out of range") throw;',
                     'if (problem.starts_with("out of")) throw;'):
            with self.subTest(body):
                self.assertEqual(len(findings(body)), 1, findings(body))
                self.assertIn("x_transformers/nn/a.cpp:5: ", findings(body)[0])

    def test_takes_notices_and_their_causes(self):
        for body in ('throw InputError(spelling(error.notice()));',
                     'auto notice = error.notice(); notice.hint = "make room"; throw InputError(std::move(notice));',
                     'throw InputError(caused(at(path + ":"), "cannot open", cause_of_errno(errno)));',
                     'throw WriteError(\n        caused(at(path), fmt::format("cannot {}", action), cause_of(reason)));',
                     'throw RunError(caused({}, "failed", cause_of_status(status.message())));',
                     'notice.cause = cause_of(error);',
                     'message(below("no sample:")(error.notice()).line());',
                     'std::fprintf(stderr, "x: %s\\n", notice.line().c_str());',
                     'cost.not_counted = notice_of(error).line();',
                     'if (name == "top_k") return;',
                     '// error.what().find("kv heads")\n'):
            with self.subTest(body):
                self.assertEqual(findings(body), [])

    def test_the_library_names_no_options_of_the_program(self):
        for body in ('throw InputError("run/a: exists; --resume goes on with it");', 'require(ok, at("--budget"), "is too small");',
                     'notice.hint = "say --from-checkpoint best";'):
            with self.subTest(body):
                self.assertEqual(len(findings(body)), 1, findings(body))
                self.assertEqual(findings(body, "apps/x-transformers/a.cpp"), [])
        for body in ('throw InputError("needs MPI (tools/install_deps.sh --mpi)");', 'if (text.find("--") == 0) return;',
                     '// as --resume\n', 'notice.hint = text("{} goes on", option("resume"));'):
            with self.subTest(body):
                self.assertEqual(findings(body), [])

    def test_words_of_other_code_are_read_in_one_place(self):
        body = 'std::string m = error.what(); m.erase(0, 4);'
        self.assertEqual(findings(body, "x_transformers/core/cause.cpp"), [])

    def test_words_of_the_loader_and_of_cudnn_are_for_a_cause(self):
        for body in ('std::string m = "needs it: " + cause_of_loader();', 'm = fmt::format("{}: {}", file, cause_of_loader());',
                     'plan.reason = "cuDNN: " + built.get_message();', 'return ::gai_strerror(error);'):
            with self.subTest(body):
                self.assertEqual(len(findings(body)), 1, findings(body))
        self.assertEqual(findings('plan.reason = "cuDNN: " + built.get_message();', "x_transformers/cuda/scored_attention.cpp"), [])
        self.assertEqual(findings('plugin.reason.cause = cause_of_loader();'), [])

    def test_what_a_text_is_about_is_data(self):
        for body in ('require(ok, "depth: expected 1 or more");', 'throw InputError(fmt::format("{}: {} is missing", path, name));',
                     'require(a(1, 2) || b[i, j],\n  fmt::format("x: expected "\n "[{}]", n));', 'throw RunError("cache: " + reason);',
                     'require(ok, std::string("cache: ") + reason);', 'warn_unused("mask, lens: at most one of them");',
                     'warn(fmt::format("data.{}: is empty", name));', 'require(ok, path + ": holds no tensors");',
                     'throw InputError(name + ".0: is needed");'):
            with self.subTest(body):
                self.assertEqual(len(findings(body)), 1, findings(body))
        for body in ('require(ok, "--out: is needed");', 'require(ok, fmt::format("--amateur {}: has other tokens", path));',
                     'require(ok, option->get_name() + ": only with " + work);'):
            for place in ("x_transformers/a.cpp", "apps/x-transformers/a.cpp"):
                with self.subTest(body, place=place):
                    self.assertTrue(any("what a text is about" in each for each in findings(body, place)))
        for body in ('require(ok, at("depth"), "expected 1 or more");', 'require(ok, at("loss"), "dim: there is none");',
                     'require(ok, "the model has no head");', 'throw RunError(caused(at(path + ":"), "cannot be read", cause_of(e)));',
                     'require(ok, text("{} has none: {}", name, given));', 'notes.push_back("mems: none");'):
            with self.subTest(body):
                self.assertEqual(findings(body), [])


if __name__ == "__main__":
    unittest.main()
