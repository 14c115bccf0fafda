import assert from 'node:assert/strict';
import { test } from 'node:test';
import { read, reason } from './decision.js';

const settings = read('{"namespaces": ["dev", "test"], "labels": {"team": "x", "cache": "no"}}');

function reasonOf(namespace, labels = {}) {
  return reason(settings, namespace, (key) => labels[key]);
}

test('a pod in one of the namespaces is skipped', () => {
  assert.equal(reasonOf('test'), 'pods in the namespace test are skipped');
});

test('a pod that has one of the labels is skipped', () => {
  assert.equal(reasonOf('shop', { cache: 'no' }), 'pods labelled cache=no are skipped');
});

test('another value of the label is another matter', () => {
  assert.equal(reasonOf('shop', { team: 'y' }), undefined);
});

test('what is not asked for counts for nothing', () => {
  assert.equal(reasonOf('developers', { app: 'x' }), undefined);
});

test('without settings nothing is skipped', () => {
  assert.equal(reason(read(''), 'dev', () => 'x'), undefined);
});

for (const [text, words] of [
  ['{"namespace": ["dev"]}', '"namespace" is not a setting; there are "namespaces" and "labels"'],
  ['{"namespaces": "dev"}', '"namespaces" is not a list of names'],
  ['{"namespaces": [1]}', '"namespaces" is not a list of names'],
  ['{"labels": ["team"]}', '"labels" is not an object of labels and values'],
  ['{"labels": {"team": true}}', '"labels" is not an object of labels and values'],
  ['["dev"]', 'the settings are not an object'],
  ['null', 'the settings are not an object'],
]) {
  test(`refused: ${text}`, () => assert.throws(() => read(text), { message: words }));
}
