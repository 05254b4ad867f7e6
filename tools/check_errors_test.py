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
    def test_takes_no_message_apart(self):
        for body in ('std::string m = error.what(); m.erase(0, 4);',
                     'const auto m = std::string(error.what()); if (m.starts_with("net.")) throw;',
                     'const std::string m = error.what(); return m.find("kv_heads");',
                     'return std::string_view(error.what())[0];',
                     'throw InputError(with_prefix("attn_", error.what()));',
                     'names = words_of(error.what());',
                     'messages.emplace_back(error.what());',
                     'return error.notice().line().find("kv_heads");'):
            with self.subTest(body):
                self.assertEqual(len(findings(body)), 1, findings(body))
                self.assertIn("x_transformers/nn/a.cpp:5: ", findings(body)[0])

    def test_may_make_another_message_of_it(self):
        for body in ('throw InputError(path + ": " + error.what());',
                     'throw InputError(fmt::format("{}: {}", path.substr(0, 3), error.what()));',
                     'return report(error.what(), 2);',
                     'message = error.what();',
                     '// error.what().find("kv_heads")\n',
                     'throw InputError(spelling(error.notice()));'):
            with self.subTest(body):
                self.assertEqual(findings(body), [])

    def test_what_other_libraries_say_is_shortened_in_two_files(self):
        body = 'std::string m = error.what(); m.erase(0, 4);'
        self.assertEqual(findings(body, "x_transformers/core/json.cpp"), [])


if __name__ == "__main__":
    unittest.main()
