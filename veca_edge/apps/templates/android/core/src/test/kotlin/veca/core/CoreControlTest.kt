package veca.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class CoreControlTest {
    private val control = CoreControl(listOf(8, 16, 32), 32)

    @Test
    fun heatTakesCoresAndGivesThemBack() {
        control.heat = Heat.SEVERE
        assertEquals(16, control.coreCount)
        control.heat = Heat.CRITICAL
        assertEquals(8, control.coreCount)
        control.followsHeat = false
        assertEquals(32, control.coreCount)
        control.followsHeat = true
        control.heat = Heat.COOL
        assertEquals(32, control.coreCount)
    }

    @Test
    fun theFewestCoresStayWhileItIsHot() {
        control.choose(Choice.Fixed(8))
        control.heat = Heat.SEVERE
        assertEquals(8, control.coreCount)
    }

    @Test
    fun aBudgetMovesAndAHandHolds() {
        assertFalse(control.needsLatencies)
        control.choose(Choice.Budget(18.0))
        assertTrue(control.needsLatencies)
        for (i in 0 until 20) control.observe(32, 28.0, i / 10.0)
        assertEquals("nobody has said yet what the others take", 32, control.coreCount)
        control.expect(mapOf(8 to 16.0, 16 to 20.0, 32 to 28.0))
        assertFalse(control.needsLatencies)
        for (i in 0 until 20) control.observe(control.coreCount, 28.0, i / 10.0)
        assertEquals(8, control.coreCount)
        control.choose(Choice.Fixed(16))
        for (i in 20 until 80) control.observe(control.coreCount, 50.0, i / 10.0)
        assertEquals(16, control.coreCount)
    }

    @Test
    fun aBudgetIsHeldWhileItIsHot() {
        val takes = mapOf(8 to 16.0, 16 to 20.0, 32 to 28.0)
        control.expect(takes)
        control.choose(Choice.Budget(33.0))
        for (i in 0 until 20) control.observe(control.coreCount, takes.getValue(control.coreCount), i / 10.0)
        assertEquals(32, control.coreCount)
        control.heat = Heat.SEVERE
        assertEquals(16, control.coreCount)
        for (i in 20 until 80) control.observe(control.coreCount, 1.8 * takes.getValue(control.coreCount), i / 10.0)
        assertEquals("16 cores take 36 ms of 33 now, 8 take 29", 8, control.coreCount)
        control.heat = Heat.CRITICAL
        assertEquals(8, control.coreCount)
        control.heat = Heat.COOL
        for (i in 80 until 4000) control.observe(control.coreCount, takes.getValue(control.coreCount), i / 10.0)
        assertEquals(32, control.coreCount)
    }

    @Test
    fun aHandThatChoosesWhileItIsHotIsHeard() {
        control.expect(mapOf(8 to 16.0, 16 to 20.0, 32 to 28.0))
        control.heat = Heat.SEVERE
        control.choose(Choice.Budget(100.0))
        assertEquals(16, control.coreCount)
        control.choose(Choice.Fixed(32))
        assertEquals(16, control.coreCount)
        control.heat = Heat.COOL
        assertEquals(32, control.coreCount)
    }

    @Test
    fun unknownCoreCountsAreRefused() {
        assertThrows(IllegalArgumentException::class.java) { control.choose(Choice.Fixed(12)) }
        assertThrows(IllegalArgumentException::class.java) { control.choose(Choice.Budget(0.0)) }
        assertThrows(IllegalArgumentException::class.java) { control.expect(mapOf(8 to 1.0)) }
    }
}
