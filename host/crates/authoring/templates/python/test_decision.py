import unittest

from decision import read, reason

NAMESPACES = read('{"namespaces": ["ci"]}')


class Decision(unittest.TestCase):
    def test_named_namespaces_are_left_alone(self):
        self.assertEqual(reason(NAMESPACES, "ci"), "images are not cached for namespace ci")

    def test_other_policies_are_asked_about_the_rest(self):
        self.assertIsNone(reason(NAMESPACES, "shop"))
        self.assertIsNone(reason(read(""), "ci"))

    def test_wrong_settings_are_refused_in_words(self):
        with self.assertRaisesRegex(ValueError, '"namespace" is not a setting; there is "namespaces"'):
            read('{"namespace": ["ci"]}')
        with self.assertRaisesRegex(ValueError, '"namespaces" is not a list of names'):
            read('{"namespaces": [""]}')
