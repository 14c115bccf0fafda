import unittest

from decision import Settings, read, reason

SETTINGS = read('{"namespaces": ["dev", "test"], "labels": {"team": "x", "cache": "no"}}')


def reason_of(namespace: str, **labels: str) -> str | None:
    return reason(SETTINGS, namespace, labels.get)


class Decision(unittest.TestCase):
    def test_a_pod_in_one_of_the_namespaces_is_skipped(self):
        self.assertEqual(reason_of("test"), "pods in the namespace test are skipped")

    def test_a_pod_that_has_one_of_the_labels_is_skipped(self):
        self.assertEqual(reason_of("shop", cache="no"), "pods labelled cache=no are skipped")

    def test_another_value_of_the_label_is_another_matter(self):
        self.assertIsNone(reason_of("shop", team="y"))

    def test_what_is_not_asked_for_counts_for_nothing(self):
        self.assertIsNone(reason_of("developers", app="x"))

    def test_without_settings_nothing_is_skipped(self):
        self.assertEqual(read(""), Settings())
        self.assertIsNone(reason(read(""), "dev", lambda _: "x"))

    def test_wrong_settings_are_refused_in_words(self):
        for text, words in [
            ('{"namespace": ["dev"]}', '"namespace" is not a setting; there are "namespaces" and "labels"'),
            ('{"namespaces": "dev"}', '"namespaces" is not a list of names'),
            ('{"namespaces": [1]}', '"namespaces" is not a list of names'),
            ('{"labels": ["team"]}', '"labels" is not an object of labels and values'),
            ('{"labels": {"team": true}}', '"labels" is not an object of labels and values'),
            ('["dev"]', "the settings are not an object"),
            ("null", "the settings are not an object"),
        ]:
            with self.subTest(text), self.assertRaises(ValueError) as refused:
                read(text)
            self.assertEqual(str(refused.exception), words, text)
